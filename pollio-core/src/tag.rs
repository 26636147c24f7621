//! Roles: what the low eight bits of the kernel's user-data word mean to the caller.

/// A role that fits the low 8 bits of the kernel's user-data word.
///
/// The role of a file descriptor travels through the kernel and comes back with each event, so that the
/// caller knows what an fd is for without looking it up. [`EventKind`](crate::EventKind) is the role that
/// everyone starts with; [`tags!`](crate::tags) defines others; `u8` is itself a role, for callers who
/// number theirs.
///
/// `from_bits(to_bits(x)) == Some(x)` holds for every `x`. A backend skips an event whose bits give
/// `None`, so a type that breaks the rule loses events, or gets them as another role's; it cannot cause harm. Neither
/// function should panic: a panic goes through `wait`, whose other events are lost then, a wake-up among them for good.
///
/// ```
/// use pollio_core::{EventKind, Tag};
///
/// assert_eq!(EventKind::Client.to_bits(), 2);
/// assert_eq!(EventKind::from_bits(2), Some(EventKind::Client));
/// assert_eq!(EventKind::from_bits(0), None);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a role: it has no tag for the kernel's user-data word",
    label = "not a role",
    note = "define roles with `tags! {{ enum Role {{ First = 1, … }} }}`, or use `EventKind` or `u8`"
)]
pub trait Tag: Copy + 'static {
    /// The bits that stand for this role.
    fn to_bits(self) -> u8;

    /// The role that `bits` stand for, or `None` where no role has them.
    fn from_bits(bits: u8) -> Option<Self>;
}

impl Tag for u8 {
    #[inline]
    fn to_bits(self) -> u8 {
        self
    }

    #[inline]
    fn from_bits(bits: u8) -> Option<Self> {
        Some(bits)
    }
}

/// Defines an enum of roles and implements [`Tag`] for it.
///
/// Every variant names its bits, 0 to 255, each once. Docs and attributes are allowed on the enum and on
/// its variants, but no `cfg`. The macro adds `Clone` and `Copy` (so do not derive them) and `#[repr(u8)]`, which
/// excludes another `repr`; derive `Debug`, `PartialEq`, `Eq` and `Hash` as needed.
///
/// ```
/// use pollio_core::{EventObject, Tag, tags};
///
/// tags! {
///     /// What each connection of a proxy is for.
///     #[derive(Debug, PartialEq, Eq)]
///     pub enum Role {
///         /// Accepts.
///         Listener = 1,
///         /// Faces the client.
///         Downstream = 2,
///         /// Faces the server.
///         Upstream = 3,
///     }
/// }
///
/// let event = EventObject::new(7, Role::Upstream);
/// assert_eq!(EventObject::decode(event.encode()), Some(event));
/// assert_eq!(Role::from_bits(4), None);
/// ```
///
/// Two roles with the same bits do not compile:
///
/// ```compile_fail,E0081
/// pollio_core::tags! { enum Role { Listener = 1, Downstream = 1 } }
/// ```
///
/// nor do bits that do not fit:
///
/// ```compile_fail
/// pollio_core::tags! { enum Role { Listener = 256 } }
/// ```
#[macro_export]
macro_rules! tags {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Role:ident {
            $( $(#[$variant_attribute:meta])* $Variant:ident = $bits:expr ),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        #[repr(u8)]
        $visibility enum $Role {
            $( $(#[$variant_attribute])* $Variant = $bits ),+
        }

        impl $crate::Tag for $Role {
            #[inline]
            fn to_bits(self) -> ::core::primitive::u8 {
                self as ::core::primitive::u8
            }

            #[inline]
            fn from_bits(bits: ::core::primitive::u8) -> ::core::option::Option<Self> {
                // The role of each number, and some other role for a number that has none.
                const ROLES: [$Role; 256] = {
                    let mut roles = [[$( $Role::$Variant ),+][0]; 256];
                    $( roles[$Role::$Variant as ::core::primitive::usize] = $Role::$Variant; )+
                    roles
                };
                let role = ROLES[bits as ::core::primitive::usize];
                if role as ::core::primitive::u8 == bits { ::core::option::Option::Some(role) } else { ::core::option::Option::None }
            }
        }
    };
}
