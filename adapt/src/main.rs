//! `adapt FROM TO`: makes a component of every `*.wasm` module of WASI 0.1 in the
//! folder FROM, by wasmtime's adapter for commands, and writes it into TO.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context as _, Result};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
};
use wit_component::ComponentEncoder;

fn main() -> Result<()> {
    let mut folders = env::args_os().skip(1).map(PathBuf::from);
    let (from, to) = folders.next().zip(folders.next()).context("usage: adapt FROM TO")?;
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|suffix| suffix != "wasm") {
            continue;
        }
        let component = adapt(&fs::read(&path)?).with_context(|| path.display().to_string())?;
        fs::write(to.join(path.file_name().context("a name")?), component)?;
    }
    Ok(())
}

fn adapt(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().module(module)?.adapter(NAME, ADAPTER)?.validate(true).encode()
}
