//! pollio-kqueue
