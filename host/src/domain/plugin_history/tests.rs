use super::*;

fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

fn accepted(number: u8) -> Accepted {
    Accepted {
        digest: digest(number),
        size: 1,
        accepted_at: Timestamp(number.into()),
        world: Some("job".to_owned()),
        answered: false,
        set_aside: None,
    }
}

/// Components 1, 2 and so on: `a` answered, `-` did not, `x` answered and is
/// set aside.
fn history(text: &str) -> PluginHistory {
    let mut history = PluginHistory::default();
    for (number, kind) in (1..).zip(text.chars()) {
        history.took_the_slot(accepted(number));
        if kind != '-' {
            history.answered(digest(number));
        }
        if kind == 'x' {
            history.set_aside(digest(number), SetAside { at: Timestamp(number.into()), why: "it trapped".to_owned() });
        }
    }
    history
}

fn numbers(digests: &[Digest]) -> Vec<u8> {
    digests.iter().map(|wanted| (1..=99).find(|number| digest(*number) == *wanted).unwrap()).collect()
}

#[test]
fn what_serves_instead_of_the_file() {
    for (text, instead) in [
        ("", vec![]),
        // The last one, also if it had nothing to do yet.
        ("a-", vec![2, 1]),
        ("-a", vec![2]),
        // Behind one that was set aside, only what answered.
        ("aa-x", vec![2, 1]),
        ("a-x", vec![1]),
        ("-x", vec![]),
        ("axa", vec![3, 1]),
    ] {
        assert_eq!(numbers(&history(text).instead()), instead, "{text}");
    }
}

#[test]
fn ten_are_kept_and_neither_the_pinned_nor_the_serving_one_goes() {
    let mut history = history("aaaaaaaaaa");
    history.steer(&Steer::Pin { digest: digest(1).to_string() }, Timestamp(0)).unwrap();
    assert_eq!(numbers(&history.took_the_slot(accepted(11))), [2]);
    assert_eq!(numbers(&history.took_the_slot(accepted(12))), [3]);
    // The pinned one takes the slot once more: nothing is forgotten for it.
    assert_eq!(history.took_the_slot(accepted(1)), []);
    assert_eq!(history.accepted.len(), KEPT);
    assert!(history.get(digest(1)).unwrap().answered, "what is known of it stays known");
    assert_eq!(history.accepted.last().unwrap().digest, digest(1));
    history.steer(&Steer::Unpin, Timestamp(0)).unwrap();
    assert_eq!(numbers(&history.took_the_slot(accepted(13))), [4]);
}

fn roll_back(history: &mut PluginHistory, to: Option<u8>) -> Result<Steered, Refused> {
    let to = to.map(|number| digest(number).to_string()[..10].to_owned());
    history.steer(&Steer::Rollback { to, why: "by hand".to_owned() }, Timestamp(77))
}

#[test]
fn rolling_back() {
    for (text, to, expected) in [
        ("aa", None, Ok((1, Some(2)))),
        ("a-a", None, Ok((1, Some(3)))),
        ("a-a", Some(2), Ok((2, Some(3)))),
        ("xa", Some(1), Ok((1, Some(2)))),
        // Nothing serves: nothing is set aside.
        ("-x", Some(1), Ok((1, None))),
        ("-x", Some(2), Ok((2, None))),
        ("", None, Err(Refused::NothingBefore)),
        ("a", None, Err(Refused::NothingBefore)),
        ("-a", None, Err(Refused::NothingBefore)),
        ("xa", None, Err(Refused::NothingBefore)),
        ("aa", Some(2), Err(Refused::Serves(digest(2)))),
        ("aa", Some(3), Err(Refused::Unknown(digest(3).to_string()[..10].to_owned()))),
    ] {
        let mut history = history(text);
        let before = history.clone();
        let rolled = roll_back(&mut history, to);
        let expected =
            expected.map(|(serves, aside)| Steered { serves: Some(digest(serves)), set_aside: aside.map(digest) });
        assert_eq!(rolled, expected, "{text} to {to:?}");
        let Ok(Steered { serves: Some(serves), set_aside }) = rolled else {
            assert_eq!(history, before, "{text} to {to:?}");
            continue;
        };
        assert_eq!(history.instead()[0], serves, "{text} to {to:?}, also after a restart");
        assert_eq!(history.mark_of(serves), None);
        if let Some(aside) = set_aside {
            assert_eq!(history.mark_of(aside), Some(&SetAside { at: Timestamp(77), why: "by hand".to_owned() }));
        }
    }
}

#[test]
fn pinning() {
    let mut history = history("ax");
    let pin =
        |history: &mut PluginHistory, text: &str| history.steer(&Steer::Pin { digest: text.to_owned() }, Timestamp(0));
    let upper = digest(2).to_string().to_uppercase();
    assert_eq!(pin(&mut history, &upper), Ok(Steered { serves: Some(digest(2)), set_aside: None }));
    assert_eq!(history.pinned, Some(digest(2)));
    assert_eq!(history.mark_of(digest(2)), None, "pinning takes the mark off");
    assert_eq!(roll_back(&mut history, None), Err(Refused::Pinned(digest(2))));
    for unknown in ["", " ", "zz", "0000000000"] {
        assert_eq!(pin(&mut history, unknown), Err(Refused::Unknown(unknown.to_owned())), "`{unknown}`");
    }
    history.steer(&Steer::Unpin, Timestamp(0)).unwrap();
    assert_eq!(history.pinned, None);
    history.steer(&Steer::Unpin, Timestamp(0)).unwrap();
}

#[test]
fn a_prefix_of_several_is_refused_and_names_them() {
    let mut history = PluginHistory::default();
    let first = digest(1).to_string().remove(0);
    let other = (2..=255).find(|number| digest(*number).to_string().starts_with(first)).unwrap();
    history.took_the_slot(accepted(1));
    history.took_the_slot(accepted(other));
    let refused = history.steer(&Steer::Pin { digest: first.to_string() }, Timestamp(0)).unwrap_err();
    assert!(refused.to_string().contains(&digest(1).short()), "{refused}");
    assert!(refused.to_string().contains("give more digits"), "{refused}");
}

#[test]
fn the_last_mark_is_told() {
    assert_eq!(history("aa").last_set_aside(), None);
    assert_eq!(history("xxa").last_set_aside().unwrap().0, digest(2));
    let mut unkept = history("a");
    unkept.set_aside(digest(9), SetAside { at: Timestamp(5), why: "it trapped".to_owned() });
    assert_eq!(numbers(&unkept.instead()), [1]);
    assert!(unkept.mark_of(digest(9)).is_some(), "also of one that could not be kept");
}

#[test]
fn text_and_back() {
    let mut history = history("a-x");
    history.pinned = Some(digest(2));
    let text = serde_json::to_string(&history).unwrap();
    assert_eq!(serde_json::from_str::<PluginHistory>(&text).unwrap(), history);
    // A later version may know more.
    let more = text.replacen("\"size\"", "\"from_later\":1,\"size\"", 1);
    assert_eq!(serde_json::from_str::<PluginHistory>(&more).unwrap(), history);
}
