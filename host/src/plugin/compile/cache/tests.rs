use std::os::unix::fs::symlink;

use crate::plugin::engine::EngineOptions;

use super::*;

/// The smallest component there is.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MOST: u64 = 1 << 20;

struct Place {
    folder: tempfile::TempDir,
    engine: Engine,
    compiled: Compiled,
    what: Identity,
}

impl Place {
    fn new() -> Self {
        let engine = Engine::new(&EngineOptions::default()).unwrap();
        let compiled = Compiled { bytes: engine.precompile(COMPONENT).unwrap(), from: 0 };
        let what = Identity { component: Digest::of(COMPONENT), engine: engine.compatibility() };
        Self { folder: tempfile::tempdir().unwrap(), engine, compiled, what }
    }

    fn cache(&self, host: &str) -> Cache {
        let (folder, key) = (self.folder.path().join("cache"), self.folder.path().join(host));
        Cache::open(CacheOptions { folder, key, max: 1 << 30 })
    }

    fn finds(&self, cache: &Cache) -> bool {
        cache.load(&self.what, &self.engine, MOST).is_some()
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path().join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn what_was_kept_is_found_after_a_restart() {
    let place = Place::new();
    let cache = place.cache("a");
    assert!(!place.finds(&cache));
    cache.save(&place.what, &place.compiled);
    assert!(place.finds(&cache) && place.finds(&place.cache("a")));
    let other = Identity { component: Digest::of(b"other"), ..place.what };
    assert!(cache.load(&other, &place.engine, MOST).is_none(), "another component");
    let other = Identity { engine: Digest::of(b"other"), ..place.what };
    assert!(cache.load(&other, &place.engine, MOST).is_none(), "another engine");
    assert!(cache.load(&place.what, &place.engine, 10).is_none(), "more than is allowed");
}

#[test]
fn no_flipped_bit_is_loaded() {
    let place = Place::new();
    let cache = place.cache("a");
    cache.save(&place.what, &place.compiled);
    let [file] = &place.files()[..] else { panic!("one file") };
    let whole = fs::read(file).unwrap();
    // Every byte of the seal and of the head, and one in 97 of the rest.
    let places = (0..256).chain((256..whole.len()).step_by(97));
    for at in places {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(file, flipped).unwrap();
        assert!(!place.finds(&cache), "byte {at}");
    }
    for length in [0, 5, SEAL, SEAL + 1, whole.len() - 1] {
        fs::write(file, &whole[..length]).unwrap();
        assert!(!place.finds(&cache), "cut to {length}");
    }
    fs::write(file, [&whole[..], b"x"].concat()).unwrap();
    assert!(!place.finds(&cache), "a byte more");
    fs::write(file, &whole).unwrap();
    assert!(place.finds(&cache), "as it was");
}

#[test]
fn a_file_under_the_name_of_another_is_not_loaded() {
    let place = Place::new();
    let cache = place.cache("a");
    let other = Identity { component: Digest::of(b"other"), ..place.what };
    cache.save(&other, &place.compiled);
    let key = cache.key().unwrap();
    fs::rename(cache.file(&key, &other), cache.file(&key, &place.what)).unwrap();
    assert!(!place.finds(&cache));
}

#[test]
fn hosts_that_share_a_folder_do_not_take_each_others_files() {
    let place = Place::new();
    let (one, other) = (place.cache("a"), place.cache("b"));
    one.save(&place.what, &place.compiled);
    assert!(place.finds(&one) && !place.finds(&other));
    other.save(&place.what, &place.compiled);
    assert!(place.finds(&one) && place.finds(&other));
    assert_eq!(place.files().len(), 2);
    // A file of the one under the other's name.
    let (from, to) = (one.file(&one.key().unwrap(), &place.what), other.file(&other.key().unwrap(), &place.what));
    fs::copy(from, to).unwrap();
    assert!(!place.finds(&other));
}

#[test]
fn what_is_no_file_of_the_cache_is_neither_read_nor_waited_for() {
    let place = Place::new();
    let cache = place.cache("a");
    cache.save(&place.what, &place.compiled);
    let [file] = &place.files()[..] else { panic!("one file") };
    let elsewhere = place.folder.path().join("elsewhere");
    fs::rename(file, &elsewhere).unwrap();
    symlink(&elsewhere, file).unwrap();
    assert!(!place.finds(&cache), "a link");
    fs::remove_file(file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
    assert!(!place.finds(&cache), "a pipe");
    cache.save(&place.what, &place.compiled);
    assert!(place.finds(&cache), "replaced");
}

#[test]
fn a_folder_that_is_gone_or_closed_costs_no_plugin() {
    let place = Place::new();
    let cache = place.cache("a");
    fs::remove_dir_all(place.folder.path().join("cache")).unwrap();
    assert!(!place.finds(&cache));
    cache.save(&place.what, &place.compiled);
    assert!(place.finds(&cache), "the folder is made anew");
    fs::remove_dir_all(place.folder.path().join("cache")).unwrap();
    fs::write(place.folder.path().join("cache"), "").unwrap();
    cache.save(&place.what, &place.compiled);
    assert!(!place.finds(&cache) && !place.finds(&place.cache("a")), "nothing is kept, and nothing fails");
}

#[test]
fn the_cache_is_kept_within_its_bound() {
    let place = Place::new();
    let options =
        |max| CacheOptions { folder: place.folder.path().join("cache"), key: place.folder.path().join("a"), max };
    let one = room::takes((SEAL + place.compiled.code().len()) as u64);
    let cache = Cache::open(options(3 * one));
    for number in 0..10_u8 {
        cache.save(&Identity { component: Digest::of(&[number]), ..place.what }, &place.compiled);
    }
    cache.save(&place.what, &place.compiled);
    assert_eq!(place.files().len(), 3);
    assert!(place.finds(&cache), "the last one stays");
    drop(Cache::open(options(one)));
    assert_eq!(place.files().len(), 1, "a smaller bound counts from the start");
    let cache = Cache::open(options(one - 1));
    cache.save(&place.what, &place.compiled);
    assert_eq!(place.files().len(), 0, "what is larger than the bound is not kept");
}

#[test]
fn what_was_half_written_goes_at_the_start() {
    let place = Place::new();
    let cache = place.cache("a");
    let half = cache.file(&cache.key().unwrap(), &place.what).with_extension(NEW);
    let others = place.folder.path().join("cache/another.new");
    fs::write(&half, "half").unwrap();
    fs::write(&others, "another host's").unwrap();
    drop(place.cache("a"));
    assert!(!half.exists() && others.exists());
}
