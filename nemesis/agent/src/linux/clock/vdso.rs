//! The stand-in for the kernel's vDSO: a copy of the image, in which every function leads out of it.
//!
//! The image that the kernel maps stays where it is and as it is: its code reads the kernel's data pages at a fixed
//! distance and can be neither moved nor copied. The copy is only what a program finds by way of AT_SYSINFO_EHDR: headers
//! and symbols. Each function in it begins with a jump, either into the stub or to its original.

use super::stub::{self, PAGE_LEN};
use object::Endianness;
use object::elf::{FileHeader64, SHT_DYNSYM, STT_FUNC};
use object::read::elf::{FileHeader, Sym};

/// A jump with an absolute target: `jmp [rip + 0]` and the address.
const FAR_JUMP: [u8; 6] = [0xff, 0x25, 0, 0, 0, 0];
const FAR_JUMP_LEN: usize = 16;
/// `jmp` with a 32 bit distance.
const NEAR_JUMP: u8 = 0xe9;
const NEAR_JUMP_LEN: usize = 5;

/// The bytes of copy and stub, as they go to a page boundary; the shared page belongs right behind them.
///
/// `image` is the kernel's, which the program has at `image_address`.
///
/// # Errors
/// In words, when the image is not what we know.
pub(super) fn stand_in(image: &[u8], image_address: u64) -> Result<Vec<u8>, String> {
    let functions = functions(image)?;
    let stub_at = image.len().next_multiple_of(PAGE_LEN);
    let mut bytes = image.to_vec();
    bytes.resize(stub_at, 0);
    bytes.extend_from_slice(stub::code());
    let mut done: Vec<usize> = Vec::new();
    let mut has_gettime = false;
    for (name, at) in &functions {
        let original = (image_address + *at as u64).to_le_bytes();
        let mut fill = |slot: usize| bytes[stub_at + slot..stub_at + slot + 8].copy_from_slice(&original);
        match name.as_str() {
            "__vdso_clock_gettime" => {
                fill(stub::ORIGINAL_GETTIME);
                has_gettime = true;
            }
            "__vdso_gettimeofday" => fill(stub::ORIGINAL_GETTIMEOFDAY),
            _ => {}
        }
        // Most functions have two names.
        if done.contains(at) {
            continue;
        }
        done.push(*at);
        let target = match stub::entry(name) {
            Some(entry) => stub_at + entry,
            None => {
                let jump = bytes.len();
                bytes.extend_from_slice(&FAR_JUMP);
                bytes.extend_from_slice(&original);
                bytes.resize(jump + FAR_JUMP_LEN, 0);
                jump
            }
        };
        // Both are below 2^31: the image is a few pages.
        let distance = target as i32 - (at + NEAR_JUMP_LEN) as i32;
        bytes[*at] = NEAR_JUMP;
        bytes[at + 1..at + NEAR_JUMP_LEN].copy_from_slice(&distance.to_le_bytes());
    }
    if !has_gettime {
        return Err("the kernel's vDSO has no __vdso_clock_gettime".to_owned());
    }
    if bytes.len() > stub_at + PAGE_LEN {
        return Err("the kernel's vDSO has too many functions".to_owned());
    }
    bytes.resize(stub_at + PAGE_LEN, 0);
    Ok(bytes)
}

/// Names of the exported functions and where in the image they begin.
fn functions(image: &[u8]) -> Result<Vec<(String, usize)>, String> {
    let read = || -> object::read::Result<_> {
        let header = FileHeader64::<Endianness>::parse(image)?;
        let endian = header.endian()?;
        let symbols = header.sections(endian, image)?.symbols(endian, image, SHT_DYNSYM)?;
        let mut functions = Vec::new();
        for symbol in symbols.iter() {
            if symbol.st_type() == STT_FUNC && !symbol.is_undefined(endian) {
                let name = String::from_utf8_lossy(symbols.symbol_name(endian, symbol)?).into_owned();
                functions.push((name, symbol.st_value(endian) as usize));
            }
        }
        Ok(functions)
    };
    let functions = read().map_err(|e| format!("cannot read the kernel's vDSO: {e}"))?;
    match functions.iter().find(|(_, at)| at + NEAR_JUMP_LEN > image.len()) {
        Some((name, _)) => Err(format!("{name} is outside of the kernel's vDSO")),
        None => Ok(functions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This process's own.
    fn image() -> (Vec<u8>, u64) {
        use std::os::unix::fs::FileExt;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let range = super::super::patch::mapping(&maps, "[vdso]").unwrap();
        let mut image = vec![0; (range.end - range.start) as usize];
        std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut image, range.start).unwrap();
        (image, range.start)
    }

    #[test]
    fn every_function_of_the_kernels_image_leads_out_of_the_copy() {
        let (image, address) = image();
        let bytes = stand_in(&image, address).unwrap();
        assert_eq!(bytes.len(), image.len().next_multiple_of(PAGE_LEN) + PAGE_LEN);
        // Symbols are found in the copy as in the original.
        let functions = functions(&image).unwrap();
        assert_eq!(functions, super::functions(&bytes[..image.len()]).unwrap());
        for (name, at) in functions {
            assert_eq!(bytes[at], NEAR_JUMP, "{name}");
            let distance = i32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap());
            let target = (at as i64 + 5 + i64::from(distance)) as usize;
            assert!(target >= image.len() && target < bytes.len(), "{name}");
            if stub::entry(&name).is_none() {
                let original = u64::from_le_bytes(bytes[target + 6..target + 14].try_into().unwrap());
                assert_eq!(original, address + at as u64, "{name}");
            }
        }
    }

    #[test]
    fn garbage_is_refused_in_words() {
        let (mut image, address) = image();
        assert!(stand_in(&[], address).unwrap_err().contains("cannot read"));
        assert!(stand_in(&image[..100], address).unwrap_err().contains("cannot read"));
        let name = b"__vdso_clock_gettime";
        let at = image.windows(name.len()).position(|bytes| bytes == name).unwrap();
        image[at] = b'x';
        assert!(stand_in(&image, address).unwrap_err().contains("__vdso_clock_gettime"));
    }
}
