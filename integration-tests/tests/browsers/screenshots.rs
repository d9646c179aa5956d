use std::{env, fs, path::PathBuf};

use crate::{
    browser::{Look, Profile},
    program::Program,
};

/// Writes pictures of the pages into the folder of `INTEGRATION_TESTS_SCREENSHOTS`.
pub(crate) async fn pages_are_drawn(profile: Profile) {
    let folder = env::var_os("INTEGRATION_TESTS_SCREENSHOTS").map(PathBuf::from);
    for (scheme, is_dark) in [("light", false), ("dark", true)] {
        let look = Look { width: 720, height: 760, is_dark };
        let program = Program::start().await;
        let profile = profile.another().with_look(look);
        let browser = profile.open().await;
        program
            .tour(&browser, "ada", async |page| {
                let picture = browser.picture().await;
                assert!(picture.starts_with(b"\x89PNG"), "{page}");
                if let Some(folder) = &folder {
                    fs::create_dir_all(folder).unwrap();
                    let kind = format!("{:?}", profile.kind()).to_lowercase();
                    fs::write(folder.join(format!("{page}-{scheme}-{kind}.png")), picture).unwrap();
                }
            })
            .await;
    }
}
