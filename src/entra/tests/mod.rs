//! Against servers that answer as Microsoft's pages say.
mod credential;
mod fake;
mod kinds;
