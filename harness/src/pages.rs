//! A page for each violated key of a run: `key-17.html`.

use crate::store::Run;
use crate::test::Test;
use squall_checkers::page::{PageOptions, render};
use squall_checkers::{CheckResult, History};

/// Writes a page for every key that is explained, and names them. A page that cannot be made is no reason to lose a
/// verdict: it is only logged.
pub(crate) fn write(test: &Test, run: &Run, history: &History, checks: &[CheckResult]) -> Vec<String> {
    let checkers = test.workload.checkers();
    let mut pages = Vec::new();
    for check in checks {
        let judged_as = checkers.iter().find(|checker| checker.name() == check.checker).and_then(|c| c.judged_as());
        let Some((model, fail_means)) = judged_as else { continue };
        for key in check.keys.iter().filter(|key| key.explanation.is_some()) {
            let title = format!("{}, key {}", test.name, key.key);
            let options = PageOptions { key: Some(key.key.clone()), fail_means, ..PageOptions::new(&title, model) };
            let name = page_name(&key.key);
            let written = render(history, check, &options)
                .map_err(anyhow::Error::from)
                .and_then(|page| run.write(&name, page.as_bytes()));
            match written {
                Ok(()) => pages.push(name),
                Err(error) => tracing::warn!("no page for key {}: {error:#}", key.key),
            }
        }
    }
    pages
}

/// `key-17.html`; what file names cannot hold is left out.
pub fn page_name(key: &str) -> String {
    let plain: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(40).collect();
    format!("key-{plain}.html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_files() {
        assert_eq!(page_name("17"), "key-17.html");
        assert_eq!(page_name("../a b"), "key-___a_b.html");
    }
}
