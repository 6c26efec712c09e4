//! What a field's type looks like: refused at once, or to be asked a question that teaches if the answer is no.
//!
//! A name proves nothing: `Box` may be anybody's type. So a suspicious name decides only *which trait* the field's type is asked
//! for. All these traits hold for every stored type, and differ in what the compiler says where they don't.

use syn::spanned::Spanned;
use syn::{Error, Type};

/// The trait, in the object crate's module `teach`, that a field's type is asked for.
pub(crate) fn question(ty: &Type) -> Result<&'static str, Error> {
    let refuse = |text: &str| Err(Error::new(ty.span(), text));
    match ty {
        Type::Array(array) => question(&array.elem),
        Type::Paren(inner) => question(&inner.elem),
        Type::Group(inner) => question(&inner.elem),
        Type::Reference(_) => refuse(
            "a reference can't lie in an object: it holds an address in one run of one program. Use `InvPtr<T>` for one \
             value, `InvSpan<T>` for several, `InvBytes` for bytes or text",
        ),
        Type::Ptr(_) => refuse(
            "a raw pointer can't lie in an object: it holds an address in one run of one program. Use `InvPtr<T>`, which holds \
             an object and an offset",
        ),
        Type::BareFn(_) => refuse(
            "a function pointer can't lie in an object: code lies elsewhere in every program. Store a number or a \
             `Choice` of an enum, and choose the function when you read it",
        ),
        Type::Slice(_) => refuse(
            "a slice has no size of its own. Use an array `[T; N]`, or `InvSpan<T>` that points to as many as there are",
        ),
        Type::Tuple(_) => refuse(
            "a tuple's layout is the compiler's choice, and another one may choose otherwise. Declare a `#[repr(C)]` struct and \
             derive `Stored` for it",
        ),
        Type::TraitObject(_) | Type::ImplTrait(_) => refuse(
            "a trait object can't lie in an object: it leads to code, which lies elsewhere in every program. Store a `Choice` of \
             an enum, and choose the code when you read it",
        ),
        Type::Path(path) => {
            let name =
                path.path.segments.last().map_or_else(String::new, |segment| segment.ident.to_string());
            if name == "RawFd" {
                return refuse(
                    "a file handle can't lie in an object: the number means something in one run of one program. \
                     Store the file's name, or the ID of an object",
                );
            }
            Ok(by_name(&name))
        }
        _ => Ok("Part"),
    }
}

fn by_name(name: &str) -> &'static str {
    match name {
        "Box" | "Rc" | "Arc" | "Weak" | "NonNull" | "Pin" => "OwningPointer",
        "Vec" | "VecDeque" | "String" | "str" | "HashMap" | "HashSet" | "BTreeMap" | "BTreeSet"
        | "BinaryHeap" | "LinkedList" | "Cow" | "PathBuf" | "Path" | "OsString" | "OsStr" | "CString"
        | "CStr" => "HeapCollection",
        "usize" | "isize" => "MachineWord",
        "bool" => "Truth",
        "char" => "Character",
        "Option" | "Result" => "Niche",
        _ if name.starts_with("NonZero") => "Niche",
        "Cell" | "RefCell" | "UnsafeCell" | "OnceCell" | "LazyCell" => "InteriorMutability",
        _ if name.starts_with("Atomic") => "InteriorMutability",
        "Mutex" | "RwLock" | "Condvar" | "Once" | "OnceLock" | "LazyLock" | "Barrier" | "Sender"
        | "Receiver" => "Lock",
        "File" | "OwnedFd" | "BorrowedFd" | "TcpStream" | "TcpListener" | "UdpSocket" | "UnixStream"
        | "UnixListener" | "Child" | "Stdin" | "Stdout" | "Stderr" | "JoinHandle" | "Thread" | "ThreadId" => {
            "Handle"
        }
        "Instant" | "SystemTime" | "Duration" => "Time",
        "Ptr" | "Span" | "Bytes" | "Object" | "Area" | "Tx" | "Guard" | "Space" | "Locked" => "Resolved",
        _ => "Part",
    }
}
