//! Tests of what only this folder can see.
