//! Sizes for people, with what they take of the disk where that differs.

use super::table;

/// `8.0T (12K on disk)`.
pub(super) fn of(size: u64, allocated: Option<u64>) -> String {
    let size = table::size(size);
    match allocated {
        None => size,
        Some(allocated) => format!("{size} ({} on disk)", table::size(allocated)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_shown_where_they_differ() {
        assert_eq!(of(10, None), table::size(10));
        assert_eq!(
            of(8 << 40, Some(12 << 10)),
            format!("{} ({} on disk)", table::size(8 << 40), table::size(12 << 10))
        );
    }
}
