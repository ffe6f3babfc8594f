//! A valid component of a world that is not ours.

#[allow(missing_docs, unsafe_code, unused_qualifications, clippy::pedantic, reason = "generated")]
#[cfg(target_arch = "wasm32")]
mod other {
    struct Other;

    wit_bindgen::generate!({
        world: "polite",
        inline: "
            package other:greeting;
            world polite {
                export greet: func() -> string;
            }
        ",
    });

    impl Guest for Other {
        fn greet() -> String {
            "hello".to_owned()
        }
    }

    export!(Other);
}
