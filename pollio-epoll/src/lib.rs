//! pollio-epoll
