//! A terminal that a program writes to, and the test reads.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

pub struct Terminal {
    keyboard: File,
    written: Arc<Mutex<String>>,
    /// Kept open, so that what a program has written can be read after its end.
    line: OwnedFd,
}

impl Terminal {
    /// Opens one, and starts to read what is written to it.
    pub fn open(columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let written = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&written);
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let terminal = Terminal { keyboard, written, line };
        terminal.resize(columns);
        terminal
    }

    pub fn resize(&self, columns: u16) {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Returns what a program's standard output should be.
    pub fn stdout(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// Presses a control key: `s` stops the terminal, `q` has it go on.
    pub fn control(&self, key: u8) {
        (&self.keyboard).write_all(&[key & 0x1f]).unwrap();
    }

    /// Returns all that was written to it so far.
    pub fn written(&self) -> String {
        self.written.lock().unwrap().clone()
    }
}

/// Returns the status lines in what a program wrote: each starts by erasing the row, and does not end.
pub fn status_lines(written: &str) -> Vec<&str> {
    let rows = written.split("\r\x1b[K").skip(1);
    rows.filter(|row| !row.is_empty() && !row.contains('\n')).collect()
}
