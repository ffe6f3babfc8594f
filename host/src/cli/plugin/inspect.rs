//! `sweepd plugin inspect`: what a plugin file is, and whether this host would take it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;

use crate::config::Config;
use crate::plugin::inspect::Inspection;

use super::super::error::CliError;
use super::super::screen::Screen;

/// Which file.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sweepd plugin inspect plugins/video-clear.wasm
  sweepd plugin inspect new.wasm && mv new.wasm plugins/video-clear.wasm")]
pub(in crate::cli) struct InspectArgs {
    /// The plugin file
    file: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Inspects one file, by the limits of the configuration or the usual ones.
pub(super) fn inspect(args: &InspectArgs, config: Option<&Config>) -> Result<ExitCode, CliError> {
    let compiler =
        super::super::compile::passing_compiler(config).map_err(|error| CliError::Refused(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let inspection = runtime.block_on(crate::plugin::inspect::inspect(&compiler, &args.file))?;
    let mut out = Screen::stdout();
    if args.json {
        out.pretty_json(&inspection)?;
    } else {
        write(&mut out, &args.file.display().to_string(), &inspection)?;
    }
    out.flush()?;
    Ok(if inspection.refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(out: &mut Screen<impl Write>, file: &str, inspection: &Inspection) -> io::Result<()> {
    writeln!(out, "file     {file}")?;
    writeln!(out, "size     {} ({} bytes)", ByteSize(inspection.size).display().iec(), inspection.size)?;
    writeln!(out, "sha256   {}", inspection.digest)?;
    writeln!(out, "kind     {}", inspection.kind)?;
    writeln!(out, "world    {}", inspection.world.unwrap_or("none that this host knows"))?;
    list(out, "exports", &inspection.exports)?;
    list(out, "imports", &inspection.imports)?;
    match &inspection.refused {
        None => writeln!(out, "taken    yes: this host would run it"),
        Some(why) => writeln!(out, "taken    no: {why}"),
    }
}

fn list(out: &mut Screen<impl Write>, title: &str, names: &[String]) -> io::Result<()> {
    if names.is_empty() {
        return writeln!(out, "{title}  none");
    }
    for (index, name) in names.iter().enumerate() {
        writeln!(out, "{:<7}  {name}", if index == 0 { title } else { "" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::domain::digest::Digest;

    use super::*;

    #[test]
    fn what_people_see() {
        let inspection = Inspection {
            size: 3,
            digest: Digest::of(b"abc"),
            kind: "component".to_owned(),
            world: None,
            imports: Vec::new(),
            exports: vec!["a".to_owned(), "b".to_owned()],
            refused: Some("it has no dispatcher".to_owned()),
        };
        let mut out = Screen::new(Vec::new());
        write(&mut out, "x.wasm", &inspection).expect("written");
        let text = out.into_text();
        assert_eq!(
            text,
            "file     x.wasm\nsize     3 B (3 bytes)\n\
             sha256   ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\
             kind     component\nworld    none that this host knows\nexports  a\n         b\n\
             imports  none\ntaken    no: it has no dispatcher\n"
        );
    }
}
