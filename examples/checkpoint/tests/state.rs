//! States that are cut short, damaged, or of other jobs.

use checkpoint::state::{State, StateErrorKind};
use std::fs;

const HEAD: &str = "checkpoint 1\njobs 9 list\nbegun 5\nfailed 1 no such page\nuncertain 3\nend\n";
fn parse(text: &str) -> Result<State, StateErrorKind> {
    State::read(text.as_bytes())
}

const TAIL: &str = "+3\n+5\n-3\n+6\n!5 gone\n";

#[test]
fn what_is_written_is_read() {
    let state = parse(HEAD).unwrap();
    assert_eq!(state.to_string(), HEAD);
    let state = parse(&format!("{HEAD}{TAIL}")).unwrap();
    assert_eq!((state.begun, state.failed.len()), (7, 2));
    assert!(state.uncertain.into_iter().eq([6]));
}

#[test]
fn a_head_that_is_cut_short_is_told() {
    for length in 0..HEAD.len() {
        let kind = parse(&HEAD[..length]).unwrap_err();
        assert!(matches!(kind, StateErrorKind::CutShort), "{length}: {kind:?}");
    }
}

/// A journal that is cut short is one of an earlier moment.
#[test]
fn a_journal_that_is_cut_short_loses_no_job() {
    let text = format!("{HEAD}{TAIL}");
    for length in HEAD.len()..text.len() {
        let state = parse(&text[..length]).unwrap();
        let whole = text[..length].rfind('\n').unwrap() + 1;
        assert_eq!(state, parse(&text[..whole]).unwrap());
        let later = parse(&text).unwrap();
        // What is done by it is done.
        let is_done = |state: &State, job| job < state.begun && !state.uncertain.contains(&job);
        assert!((0..9).all(|job| !is_done(&state, job) || is_done(&later, job)), "{length}");
    }
}

#[test]
fn lines_that_make_no_sense_are_told_by_their_number() {
    for (text, line) in [
        (HEAD.replace("checkpoint 1", "checkpoint 2"), 1),
        (HEAD.replace("jobs 9", "jab 9"), 2),
        (HEAD.replace("begun 5", "begun x"), 3),
        (HEAD.replace("uncertain 3", "uncertain -3"), 5),
        (format!("{HEAD}+7\n"), 7),    // the next one is 5
        (format!("{HEAD}-4\n"), 7),    // it was done before
        (format!("{HEAD}!99 x\n"), 7), // it has not begun
        (format!("{HEAD}+5\n\n"), 8),
    ] {
        let kind = parse(&text).unwrap_err();
        assert!(matches!(kind, StateErrorKind::Damaged(at) if at == line), "{text}: {kind:?}");
    }
}

#[test]
fn nothing_that_is_read_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let text = format!("{HEAD}{TAIL}").into_bytes();
    for _ in 0..100_000 {
        let mut text = text.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..text.len());
            text[at] = random.choice(b"0123456789+-! \nabx".iter().copied()).unwrap();
        }
        let _ = parse(&String::from_utf8(text).unwrap());
    }
}

#[test]
fn the_state_of_other_jobs_is_refused_and_left_alone() {
    let folder = std::env::temp_dir().join(format!("checkpoint-state-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (list, path) = (folder.join("list"), folder.join("state"));
    assert!(State::load(&path, &list).is_err(), "there is no list");
    fs::write(&list, "eight of\n").unwrap();
    assert_eq!(State::load(&path, &list).unwrap().begun, 0);
    fs::write(&path, HEAD).unwrap();
    assert_eq!(State::load(&path, &list).unwrap().begun, 5);
    fs::write(&list, "ten of it\n").unwrap();
    let error = State::load(&path, &list).unwrap_err();
    assert!(matches!(error.kind(), StateErrorKind::OtherJobs(jobs) if jobs == "9 list"));
    assert!(error.to_string().contains("state: this is the state of other jobs"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), HEAD);
    fs::remove_dir_all(&folder).unwrap();
}
