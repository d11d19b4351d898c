//! `pinwatch manual`: manual pages and shell completions for a package, generated from the clap types.

#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap_complete::Shell;

use crate::cli::Manual;
use crate::cli::config::command;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

pub fn manual(Manual { folder }: &Manual) -> Result<ExitCode> {
    let written = || -> Result<()> {
        fs::create_dir_all(folder)?;
        clap_mangen::generate_to(command(), folder)?;
        for shell in SHELLS {
            clap_complete::generate_to(shell, &mut command(), "pinwatch", folder)?;
        }
        Ok(())
    };
    written().with_context(|| format!("cannot write the manual pages to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
