//! The kernel's function names, for its backtraces: one line for each function, sorted by address.

use std::fmt::Write;

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::STT_FUNC;
use elf::endian::LittleEndian;

/// Lists the functions of an ELF file as `HEXADDRESS NAME` lines.
///
/// # Errors
/// It is no ELF file, or has no symbols.
pub fn functions(file: &[u8]) -> Result<String> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).context("the kernel is no ELF file")?;
    let (table, strings) =
        elf.symbol_table().context("damaged symbol table")?.context("the kernel has no symbols")?;
    let mut functions: Vec<(u64, String)> = table
        .iter()
        .filter(|symbol| symbol.st_symtype() == STT_FUNC && symbol.st_value != 0)
        .filter_map(|symbol| {
            let name = strings.get(symbol.st_name as usize).ok()?;
            Some((symbol.st_value, format!("{:#}", rustc_demangle::demangle(name))))
        })
        .collect();
    functions.sort();
    functions.dedup_by_key(|(address, _)| *address);
    Ok(functions.iter().fold(String::new(), |mut text, (address, name)| {
        let _ = writeln!(text, "{address:016x} {name}");
        text
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn own_functions_are_found_and_sorted() {
        let me = std::fs::read("/proc/self/exe").expect("Linux");
        let text = super::functions(&me).expect("test programs have symbols");
        let addresses: Vec<&str> = text.lines().map(|line| &line[..16]).collect();
        assert!(addresses.is_sorted());
        assert!(text.contains("own_functions_are_found_and_sorted"));
        assert!(super::functions(b"no ELF").is_err());
    }
}
