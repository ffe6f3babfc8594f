//! The known name nearest to a mistyped one, for every message that says "did
//! you mean".

/// Names less alike than this are more likely unrelated than mistyped.
const ALIKE: f64 = 0.5;

/// The known name nearest to `name`; `None` where none is near.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["video-clear", "video-archive", "thumbnails"];
        for (name, wanted) in [
            ("video-cleer", Some("video-clear")),
            ("thumbnial", Some("thumbnails")),
            ("video-archiv", Some("video-archive")),
            ("orphans", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), wanted, "{name}");
        }
        assert_eq!(nearest("a", []), None);
    }
}
