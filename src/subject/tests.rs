//! Tests of subjects and sets.
