//! Runs the `nft` program: one script is one transaction of the kernel's packet filter.

use std::{io, path::PathBuf, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

/// The `nft` program, in the network namespace of this process.
#[derive(Debug, Clone)]
pub(crate) struct Nft {
    program: PathBuf,
}

/// Why `nft` did not do what it was told. Nothing of the refused script is in force.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NftError {
    /// The program could not be started.
    #[error(
        "cannot run `{program}`: {reason}; it comes with the package `nftables` (1.0.6 or later), or set the path to it"
    )]
    Missing {
        /// What was to be run.
        program: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The kernel did not allow it.
    #[error(
        "the kernel does not let this process change the packet filter: it needs CAP_NET_ADMIN in its network namespace (nft said: {message})"
    )]
    Privilege {
        /// What the program said.
        message: String,
    },
    /// The script was refused.
    #[error("nft refused a transaction: {message}")]
    Refused {
        /// What the program said, shortened.
        message: String,
    },
    /// A table of the wanted name was made by somebody else.
    #[error(
        "table `inet {table}` exists and was not made by this program; configure another table name, or remove it with `nft delete table inet {table}`"
    )]
    ForeignTable {
        /// The name of the table.
        table: String,
    },
}

/// How much of what `nft` says is passed on: it repeats the offending lines, which can be megabytes long.
const MESSAGE_LIMIT: usize = 600;

impl Nft {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Applies `script` as a whole or not at all.
    ///
    /// Dropping the future kills the program; whether the script took effect is then unknown.
    pub(crate) async fn apply(&self, script: &str) -> Result<(), NftError> {
        self.run(&["-f", "-"], script).await.map(drop)
    }

    /// Answers the program's output for `arguments`.
    pub(crate) async fn query(&self, arguments: &[&str]) -> Result<String, NftError> {
        self.run(arguments, "").await
    }

    /// Makes sure that `table` does not exist, or carries `mark` as its comment and so is ours to replace.
    pub(crate) async fn claim(&self, table: &str, mark: &str) -> Result<(), NftError> {
        match self.definition(table).await? {
            Some(definition) if !definition.contains(&format!("comment \"{mark}\"")) => {
                Err(NftError::ForeignTable { table: table.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// The chains and sets of `table`, without the sets' elements; `None` when there is no such table.
    pub(crate) async fn definition(&self, table: &str) -> Result<Option<String>, NftError> {
        match self.query(&["-s", "-t", "list", "table", "inet", table]).await {
            Ok(definition) => Ok(Some(definition)),
            Err(NftError::Refused { message }) if message.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<String, NftError> {
        let missing = |error: io::Error| NftError::Missing {
            program: self.program.display().to_string(),
            reason: error.to_string(),
        };
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(missing)?;
        let mut stdin = child.stdin.take().expect("stdin is piped above");
        let feed = async move {
            // A program that stops reading says why on stderr; the broken pipe itself says nothing.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        let ((), output) = tokio::join!(biased; feed, child.wait_with_output());
        let output = output.map_err(missing)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(refusal(&String::from_utf8_lossy(&output.stderr)))
    }
}

fn refusal(stderr: &str) -> NftError {
    let mut message = stderr.trim().replace('\n', " | ");
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_LIMIT) {
        message.truncate(end);
    }
    if message.contains("Operation not permitted") {
        return NftError::Privilege { message };
    }
    NftError::Refused { message }
}
