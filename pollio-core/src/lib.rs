//! pollio-core
