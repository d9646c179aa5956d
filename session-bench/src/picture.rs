use std::fmt::Write as _;

/// Bars on one scale, in groups.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// The meaning of a share of 1.
    pub(crate) whole: &'static str,
    pub(crate) groups: Vec<Group>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: &'static str,
    pub(crate) is_ours: bool,
    /// The lower quartile, the median and the upper quartile.
    pub(crate) share: [f64; 3],
    /// The failures of the server on this route.
    pub(crate) note: Option<String>,
}

/// Draws the panels, one below the other, as SVG for light and dark pages.
pub(crate) fn svg(panels: &[Panel], footnotes: &[&str]) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    for panel in panels.iter().filter(|panel| !panel.groups.is_empty()) {
        y = draw_panel(&mut body, panel, y) + PANEL_GAP;
    }
    for footnote in footnotes {
        let text = escaped(footnote);
        let _ = writeln!(body, r#"<text class="quiet" x="{MARGIN}" y="{y}">{text}</text>"#);
        y += FOOTNOTE;
    }
    let height = y + MARGIN - FOOTNOTE / 2;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="Requests per second compared">
<style>{STYLE}</style>
<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>
{body}</svg>
"#
    )
}

/// Draws a panel from `top` down, and returns its lower end.
fn draw_panel(out: &mut String, panel: &Panel, top: u32) -> u32 {
    let bars = || panel.groups.iter().flat_map(|group| &group.bars);
    let largest = bars().map(|bar| bar.share[2]).fold(1.0, f64::max);
    let x = |share: f64| f64::from(BARS_AT) + share / largest * f64::from(BARS_WIDTH);

    let mut y = top + TITLE;
    let _ = writeln!(
        out,
        r#"<text class="title" x="{MARGIN}" y="{y}">{}</text>"#,
        escaped(panel.title)
    );
    y += LINE;
    let line_at = x(1.0);
    let whole = escaped(panel.whole);
    let _ = writeln!(
        out,
        r#"<text class="quiet" x="{line_at:.1}" y="{y}" text-anchor="middle">1 = {whole}</text>"#
    );
    y += LINE / 2;
    let first = y;
    let mut rows = String::new();
    for group in &panel.groups {
        y += GROUP_GAP;
        for (number, bar) in group.bars.iter().enumerate() {
            let base = y + BAR - 2;
            if number == 0 {
                let title = escaped(&group.title);
                let _ =
                    writeln!(rows, r#"<text class="group" x="{MARGIN}" y="{base}">{title}</text>"#);
            }
            draw_bar(&mut rows, bar, y, &x);
            y += ROW;
        }
    }
    let _ = writeln!(
        out,
        r#"<line class="whole" x1="{line_at:.1}" x2="{line_at:.1}" y1="{first}" y2="{y}"/>"#
    );
    out.push_str(&rows);
    y
}

fn draw_bar(out: &mut String, bar: &Bar, y: u32, x: &impl Fn(f64) -> f64) {
    let [lower, share, upper] = bar.share;
    let class = if bar.is_ours { "ours" } else { "other" };
    let (base, middle) = (y + BAR - 2, f64::from(y) + f64::from(BAR) / 2.0);
    let width = x(share) - x(0.0);
    let after = x(upper.max(share)) + 6.0;
    let label_at = BARS_AT - 8;
    let label = escaped(bar.label);
    let _ = writeln!(
        out,
        r#"<text class="{class}" x="{label_at}" y="{base}" text-anchor="end">{label}</text>
<rect class="{class}" x="{BARS_AT}" y="{y}" width="{width:.1}" height="{BAR}" rx="2"/>
<line class="quartiles" x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}"/>
<text class="share" x="{after:.1}" y="{base}">{share:.2}{}</text>"#,
        x(lower),
        x(upper),
        bar.note.as_ref().map_or_else(String::new, |note| {
            format!(r#"<tspan class="bad" dx="8">{}</tspan>"#, escaped(note))
        }),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const WIDTH: u32 = 840;
const MARGIN: u32 = 20;
const PANEL_GAP: u32 = 24;
const TITLE: u32 = 14;
const LINE: u32 = 22;
const FOOTNOTE: u32 = 16;
const GROUP_GAP: u32 = 10;
const ROW: u32 = 19;
/// The height of a bar.
const BAR: u32 = 13;
/// The left end of the bars, and the length of the longest one. Names stand to the left, numbers and
/// notes to the right.
const BARS_AT: u32 = 310;
const BARS_WIDTH: u32 = 365;

const STYLE: &str = "
text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328; }
.page { fill: #ffffff; }
.title { font-size: 15px; font-weight: 600; }
.group { font-weight: 600; }
.quiet { fill: #59636e; font-size: 11px; }
.bad { fill: #b42318; }
.share { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
text.ours { font-weight: 600; }
rect.ours { fill: #2f6feb; }
rect.other { fill: #afb8c1; }
.quartiles { stroke: #1f2328; stroke-opacity: 0.55; stroke-width: 1.5; }
.whole { stroke: #59636e; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .page { fill: #0d1117; }
  .quiet { fill: #9198a1; }
  .bad { fill: #ff9b8e; }
  .share { stroke: #0d1117; }
  rect.ours { fill: #4c8dff; }
  rect.other { fill: #57606a; }
  .quartiles { stroke: #e6edf3; }
  .whole { stroke: #9198a1; }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(share: [f64; 3]) -> Panel {
        let bar = Bar { label: "a < b", is_ours: true, share, note: None };
        let group = Group { title: "read".to_owned(), bars: vec![bar] };
        Panel { title: "In memory", whole: "no sessions", groups: vec![group] }
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let svg = svg(&[panel([0.4, 0.5, 1.0])], &[]);
        let half = f64::from(BARS_WIDTH) / 2.0;
        assert!(svg.contains(&format!(r#"width="{half:.1}" height="{BAR}""#)), "{svg}");
    }

    #[test]
    fn the_longest_bar_fits() {
        let svg = svg(&[panel([1.0, 4.0, 4.0])], &[]);
        assert!(svg.contains(&format!(r#"width="{BARS_WIDTH}.0" height="{BAR}""#)), "{svg}");
    }

    #[test]
    fn text_is_escaped() {
        assert!(svg(&[panel([0.9; 3])], &[]).contains(">a &lt; b<"));
    }
}
