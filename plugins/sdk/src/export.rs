//! The two macros that turn a policy into a component. Natively they only check
//! that the policy has the traits, so that its crate builds and tests anywhere.

/// Exports a type that is a [`Dispatcher`](crate::Dispatcher) and an
/// [`Executor`](crate::Executor): the world `job`. Once a crate.
#[macro_export]
macro_rules! job {
    ($policy:ty) => {
        const _: () = {
            const fn is_job<P: $crate::Dispatcher + $crate::Executor>() {}
            is_job::<$policy>();
        };
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "a component's exports are named by hand")]
        const _: () = {
            type Exported = $crate::bindings::Bridge<$policy>;
            $crate::bindings::executing::export_executor!(
                Exported with_types_in $crate::bindings::executing
            );
            $crate::bindings::dispatching::export_dispatcher!(
                Exported with_types_in $crate::bindings::dispatching
            );
        };
    };
}

/// Exports a type that is an [`Executor`](crate::Executor): the world
/// `executor-only`. Once a crate.
#[macro_export]
macro_rules! executor {
    ($policy:ty) => {
        const _: () = {
            const fn is_executor<P: $crate::Executor>() {}
            is_executor::<$policy>();
        };
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "a component's exports are named by hand")]
        const _: () = {
            type Exported = $crate::bindings::Bridge<$policy>;
            $crate::bindings::executing::export_executor!(
                Exported with_types_in $crate::bindings::executing
            );
        };
    };
}
