use std::{env, fs};

use serde_json::json;

use crate::{
    browser::{Browser, Look, Profile},
    leave_out,
    program::Program,
};

/// The checker axe-core includes the contrast of texts.
pub(crate) async fn pages_have_no_violations_in_light_and_dark(profile: Profile) {
    let axe = match axe() {
        Ok(axe) => axe,
        Err(missing) => return leave_out("the accessibility checker", &missing),
    };
    for is_dark in [false, true] {
        let program = Program::start().await;
        let look = Look { width: 800, height: 900, is_dark };
        let profile = profile.another().with_look(look);
        let browser = profile.open().await;
        let is_shown_dark = "return matchMedia('(prefers-color-scheme: dark)').matches";
        assert_eq!(browser.js(is_shown_dark).await, json!(is_dark));
        program.tour(&browser, "ada", async |page| check(&browser, &axe, page).await).await;
    }
}

async fn check(browser: &Browser, axe: &str, page: &str) {
    let run =
        format!("{axe}; return axe.run().then(found => [found.violations, found.passes.length])");
    let found = browser.js(&run).await;
    let violations = found[0].as_array().unwrap_or_else(|| panic!("{page}: no result: {found}"));
    assert!(violations.is_empty(), "{page}: {violations:#?}");
    assert!(found[1].as_u64() > Some(10), "{page}: too few rules apply: {}", found[1]);
}

/// Reads the checker, which `.ci/run browsers` fetches into Cargo's target folder.
fn axe() -> Result<String, String> {
    let program = env::current_exe().unwrap();
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let file = target.ok_or("no target folder")?.join("axe.min.js");
    fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))
}
