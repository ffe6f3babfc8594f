//! What the standard library wants of a C library that is newer than Debian's:
//! functions that fail with "not supported", so that a guest which uses them
//! links. Weak, so that a C library which has them wins.
//!
//! Compiled by itself, before there is a standard library: hence no `core`.

#![feature(no_core, lang_items, thread_local, linkage)]
#![no_core]
#![allow(internal_features, unused)]

#[lang = "pointee_sized"]
trait PointeeSized {}
#[lang = "meta_sized"]
trait MetaSized: PointeeSized {}
#[lang = "sized"]
trait Sized: MetaSized {}
#[lang = "copy"]
trait Copy {}
impl Copy for i32 {}
#[lang = "sync"]
trait Sync {}
impl Sync for i32 {}
#[lang = "freeze"]
trait Freeze {}

unsafe extern "C" {
    #[thread_local]
    static mut errno: i32;
}

const NOT_SUPPORTED: i32 = 58;
const FAILED: i32 = 0xffff_ffffu32 as i32;
const NULL: i32 = 0;
const NO_NAME: i32 = 8;

macro_rules! stubs {
    ($($name:ident($($argument:ident)*) $answer:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[linkage = "weak"]
            unsafe extern "C" fn $name($($argument: i32),*) -> i32 {
                unsafe { errno = NOT_SUPPORTED }
                $answer
            }
        )*
    };
}

stubs! {
    bind(a b c) FAILED;
    chmod(a b) FAILED;
    connect(a b c) FAILED;
    getsockname(a b c) FAILED;
    listen(a b) FAILED;
    sendto(a b c d e f) FAILED;
    setsockopt(a b c d e) FAILED;
    socket(a b c) FAILED;
    realpath(a b) NULL;
    getaddrinfo(a b c d) NO_NAME;
    gai_strerror(a) NULL;
    pthread_attr_init(a) 0;
    pthread_attr_destroy(a) 0;
    pthread_attr_setstacksize(a b) 0;
    pthread_create(a b c d) NOT_SUPPORTED;
    pthread_join(a b) NOT_SUPPORTED;
}

#[unsafe(no_mangle)]
#[linkage = "weak"]
unsafe extern "C" fn freeaddrinfo(a: i32) {}
