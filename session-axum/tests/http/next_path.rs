//! The page to which a login returns, against open redirects. The `url` crate resolves references
//! as browsers do.

use axum::{Router, body::Body, extract::Query, http::Request, routing::get};
use session_axum::NextPath;
use url::Url;

use crate::support::answer;

#[test]
fn reference_that_may_leave_the_site_becomes_the_root() {
    for attack in [
        "",
        "evil.example",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "https://evil.example",
        "https:evil.example",
        "https:/evil.example",
        "HTTPS:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/\\evil.example",
        "\\/evil.example",
        "\\\\evil.example",
        "/\\/evil.example",
        "/a\\..\\evil",
        "/?a=\\",
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r/evil.example",
        "\t//evil.example",
        " //evil.example",
        " /a",
        "/a ",
        "/\0/evil.example",
        "/a\r\nset-cookie: a=b",
        "/%2f/evil.example",
        "/%2Fevil.example",
        "/%5cevil.example",
        "/%5C/evil.example",
        "/%09/evil.example",
        "/%0d%0aset-cookie:a=b",
        "/%00",
        "/..//evil.example",
        "/.//evil.example",
        "/a/..//evil.example",
        "/%2e%2e//evil.example",
        "/..%2f/evil.example",
        "/a//evil.example",
        "/\u{ff0f}evil.example",
        "/\u{2215}evil.example",
        "\u{ff0f}\u{ff0f}evil.example",
        "/\u{a0}/evil.example",
        "/\u{ad}/evil.example",
        "/\u{2028}/evil.example",
        "\u{feff}/a",
        "@evil.example",
        "?next=/a",
        "#a",
        ".",
        "..",
        "/\"><script>",
        "/<script>",
    ] {
        assert_eq!(NextPath::new(attack).as_str(), "/", "{attack:?}");
    }
}

#[test]
fn page_of_the_site_is_kept() {
    for page in [
        "/",
        "/invoices",
        "/invoices/7/",
        "/invoices?page=2&sort=-date",
        "/go?to=https://other.example//a",
        "/search?q=a%0Ab%5c",
        "/files/a%2Fb%20c",
        "/caf%C3%A9#menu",
        "/@user/:id;v=1",
        "/100%",
        "/a/../b",
    ] {
        assert_eq!(NextPath::new(page).as_str(), page);
        stays_on_the_site(page);
    }
}

#[test]
fn length_is_bounded() {
    let page = format!("/{}", "a".repeat(1_999));
    assert_eq!(NextPath::new(&page).as_str(), page);
    assert_eq!(NextPath::new(&format!("{page}a")).as_str(), "/");
}

/// All references of up to four of these parts.
#[test]
fn every_accepted_reference_stays_on_the_site() {
    const PARTS: [&str; 20] = [
        "/",
        "\\",
        ".",
        "..",
        ":",
        "@",
        "?",
        "#",
        ";",
        "%2f",
        "%2F",
        "%5c",
        "%2e",
        "%09",
        "\t",
        "\n",
        " ",
        "\u{ff0f}",
        "https",
        "evil.example",
    ];
    let mut references = vec![String::new()];
    let mut accepted = 0;
    for _ in 0..4 {
        references = references
            .iter()
            .flat_map(|reference| PARTS.iter().map(move |part| format!("{reference}{part}")))
            .collect();
        for reference in &references {
            let next = NextPath::new(reference);
            if next.as_str() == reference {
                accepted += 1;
                stays_on_the_site(reference);
            }
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}

#[tokio::test]
async fn query_without_a_usable_next_leads_to_the_root() {
    #[derive(serde::Deserialize)]
    struct Login {
        #[serde(default)]
        next: NextPath,
    }
    let page = async |Query(login): Query<Login>| login.next.to_string();
    let router: Router = Router::new().route("/login", get(page));
    for (query, next) in [
        ("", "/"),
        ("?next=", "/"),
        ("?next=/a%3Fb%3D1%26c%3D%2525", "/a?b=1&c=%25"),
        ("?next=%2Fa", "/a"),
        ("?next=//evil.example", "/"),
        ("?next=%2F%2Fevil.example", "/"),
        ("?next=/%2f/evil.example", "/"),
        ("?next=/%252f/evil.example", "/"),
        ("?next=/%09/evil.example", "/"),
        ("?next=/%5Cevil.example", "/"),
        ("?next=/%EF%BC%8Fevil.example", "/"),
        ("?next=/%ff", "/"),
    ] {
        let request = Request::get(format!("/login{query}")).body(Body::empty()).unwrap();
        assert_eq!(answer(router.clone(), request).await.body, next, "{query}");
    }
}

/// Resolves a reference as a browser does, as it is, after one more server has decoded its path, and
/// after one has removed its dots.
fn stays_on_the_site(reference: &str) {
    let site = Url::parse("https://shop.example/login").unwrap();
    let (path, _) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let resolved = site.join(reference).unwrap();
    for (reference, url) in [
        (reference, resolved.clone()),
        (&decoded, site.join(&decoded).unwrap()),
        (resolved.path(), site.join(resolved.path()).unwrap()),
    ] {
        assert_eq!(url.origin(), site.origin(), "{reference:?}");
    }
}
