//! pollio
