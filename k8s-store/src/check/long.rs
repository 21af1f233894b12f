//! Runs proofs round after round, for as long as somebody likes, and tells how far they are.
//!
//! A proof is a name and a function of a seed. All of a program's proofs take turns until the time is up, the rounds are
//! over, or one fails: then it names the seed with which it fails again.

use std::{
    error::Error,
    io::{self, Write},
    time::Duration,
};

/// What a round of a proof came to: how many of what, or what was wrong.
pub type Round = Result<u64, String>;

/// Something that can be proven again and again.
pub struct Proof {
    /// How it is asked for.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Runs it once.
    pub round: fn(u64) -> Round,
}

/// How long which proofs run.
pub struct Orders<'a> {
    limit: Duration,
    seed: u64,
    rounds: u64,
    proofs: Vec<&'a Proof>,
}

impl<'a> Orders<'a> {
    /// What a command line asks for: `--minutes N`, `--seed S`, `--rounds R`, and the names of `proofs`. An hour, from
    /// seed 1, a thousand rounds, and all of them, unless it says otherwise.
    ///
    /// # Errors
    ///
    /// What is not understood, and what would be.
    pub fn read(proofs: &'a [Proof], mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut orders = Self { limit: Duration::from_secs(3600), seed: 1, rounds: 1000, proofs: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut number = || -> Result<u64, Box<dyn Error>> {
                Ok(arguments.next().ok_or_else(|| format!("{argument} needs a number"))?.parse()?)
            };
            match argument.as_str() {
                "--minutes" => orders.limit = Duration::from_secs(60 * number()?),
                "--seed" => orders.seed = number()?,
                "--rounds" => orders.rounds = number()?,
                name => {
                    let names: Vec<_> = proofs.iter().map(|proof| proof.name).collect();
                    let proof = proofs.iter().find(|proof| proof.name == name);
                    orders.proofs.push(proof.ok_or_else(|| format!("{name} is none of {}", names.join(", ")))?);
                }
            }
        }
        if orders.proofs.is_empty() {
            orders.proofs = proofs.iter().collect();
        }
        Ok(orders)
    }

    /// Carries them out; `elapsed` tells how long the program runs. Returns whether everything held.
    ///
    /// # Errors
    ///
    /// Of writing to `out`.
    pub fn carry_out(&self, elapsed: impl Fn() -> Duration, out: &mut dyn Write) -> io::Result<bool> {
        let mut counts = vec![0; self.proofs.len()];
        for round in 0..self.rounds {
            for (proof, count) in self.proofs.iter().zip(&mut counts) {
                if elapsed() >= self.limit {
                    writeln!(out, "\nthe time is up")?;
                    return self.sum_up(&counts, out);
                }
                let (name, seed) = (proof.name, self.seed + round);
                match (proof.round)(seed) {
                    Ok(more) => *count += more,
                    Err(wrong) => {
                        writeln!(out, "\n{name} FAILED with seed {seed}: {wrong}")?;
                        writeln!(out, "again: --seed {seed} --rounds 1 {name}")?;
                        return Ok(false);
                    }
                }
                let (elapsed, round, rounds) = (elapsed().as_secs(), round + 1, self.rounds);
                write!(
                    out,
                    "\r{elapsed:>6} s  round {round:>5} of {rounds}  {name:<10} {count:>10} {}\x1b[K",
                    proof.unit
                )?;
                out.flush()?;
            }
        }
        writeln!(out)?;
        self.sum_up(&counts, out)
    }

    fn sum_up(&self, counts: &[u64], out: &mut dyn Write) -> io::Result<bool> {
        for (proof, count) in self.proofs.iter().zip(counts) {
            writeln!(out, "{:>10}: {count} {}", proof.name, proof.unit)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOFS: [Proof; 2] = [
        Proof { name: "sound", unit: "checks", round: |_| Ok(2) },
        Proof { name: "fails", unit: "checks", round: |seed| if seed == 6 { Err("it does".into()) } else { Ok(1) } },
    ];

    fn told(arguments: &str) -> (bool, String) {
        let words = arguments.split_whitespace().map(str::to_owned);
        let orders = Orders::read(&PROOFS, words).expect("it is understood");
        let mut out = Vec::new();
        let held = orders.carry_out(|| Duration::ZERO, &mut out).expect("writing to memory does not fail");
        (held, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_failure_names_its_seed_and_success_is_counted() {
        let (held, text) = told("--seed 5 --rounds 3");
        assert!(!held && text.contains("fails FAILED with seed 6: it does"), "{text}");
        assert!(text.ends_with("again: --seed 6 --rounds 1 fails\n"), "{text}");
        let (held, text) = told("--seed 5 --rounds 3 sound");
        assert!(held && text.ends_with("     sound: 6 checks\n"), "{text}");
        assert!(told("--minutes 0").1.contains("the time is up"));
        for bad in ["--minutes", "--seed x", "unknown"] {
            assert!(Orders::read(&PROOFS, bad.split_whitespace().map(str::to_owned)).is_err(), "{bad}");
        }
    }
}
