//! Pods on paper: whole lives played out by plan alone, in no time.

mod exhaustive;
mod life;
mod world;
