//! The table of functions: names, types, costs, and what evaluates them.

use super::{
    Budget, EvalError, Value, authorizer,
    budget::Cost,
    kubernetes::{self, cidr, format, ip, quantity, semver, url},
    lists, number, text,
    types::Type,
    unify::Substitution,
};

/// What evaluates a function.
pub(super) type Native = for<'a> fn(&[Value<'a>], &mut Budget) -> Result<Value<'a>, EvalError>;

/// One function, with all types that it is defined for.
pub(super) struct Function {
    pub name: &'static str,
    /// Whether it is called on its first argument.
    pub member: bool,
    pub native: Native,
    pub cost: Cost,
    pub overloads: &'static [(&'static [P], P)],
}

/// A type in the table.
#[derive(Clone, Copy)]
pub(super) enum P {
    Any,
    Bool,
    Int,
    Uint,
    Double,
    Str,
    Bytes,
    Time,
    Span,
    /// Any type, the same wherever it stands in one overload.
    A,
    B,
    TypeOfA,
    List(&'static P),
    Map(&'static P, &'static P),
    Opt(&'static P),
    Own(&'static str),
}

impl P {
    /// The type, with the parameters of one call.
    pub fn instantiate(self, params: &[Type; 2]) -> Type {
        match self {
            Self::Any => Type::Dyn,
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Uint => Type::Uint,
            Self::Double => Type::Double,
            Self::Str => Type::String,
            Self::Bytes => Type::Bytes,
            Self::Time => Type::Timestamp,
            Self::Span => Type::Duration,
            Self::A => params[0].clone(),
            Self::B => params[1].clone(),
            Self::TypeOfA => Type::Type(params[0].clone().into()),
            Self::List(item) => Type::list(item.instantiate(params)),
            Self::Map(key, value) => Type::map(key.instantiate(params), value.instantiate(params)),
            Self::Opt(inner) => Type::optional(inner.instantiate(params)),
            Self::Own(name) => Type::Opaque(name),
        }
    }
}

/// Types that only their functions know.
pub(super) const URL: P = P::Own("kubernetes.URL");
const QUANTITY: P = P::Own("kubernetes.Quantity");
const IP: P = P::Own("net.IP");
const CIDR: P = P::Own("net.CIDR");
const SEMVER: P = P::Own("kubernetes.Semver");
const FORMAT: P = P::Own("kubernetes.NamedFormat");
const AUTHORIZER: P = P::Own("kubernetes.authorization.Authorizer");
const PATH_CHECK: P = P::Own("kubernetes.authorization.PathCheck");
const GROUP_CHECK: P = P::Own("kubernetes.authorization.GroupCheck");
const RESOURCE_CHECK: P = P::Own("kubernetes.authorization.ResourceCheck");
const DECISION: P = P::Own("kubernetes.authorization.Decision");

/// The function of a name.
pub(super) fn find(name: &str, member: bool) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.member == member && function.name == name)
}

/// Whether `format.NAME()` makes a named format.
pub(super) fn is_format(name: &str) -> bool {
    format::NAMES.contains(&name)
}

/// Fresh parameters for one call.
pub(super) fn params(substitution: &mut Substitution) -> [Type; 2] {
    [substitution.fresh(), substitution.fresh()]
}

/// The types that names stand for, as in `type(x) == int`.
pub(super) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(Type::Dyn.into()),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
        "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
        "kubernetes.Semver" => Type::Opaque("kubernetes.Semver"),
        "kubernetes.NamedFormat" => Type::Opaque("kubernetes.NamedFormat"),
        "net.IP" => Type::Opaque("net.IP"),
        "net.CIDR" => Type::Opaque("net.CIDR"),
        _ => return None,
    })
}

const fn global(name: &'static str, native: Native, cost: Cost, overloads: &'static [(&'static [P], P)]) -> Function {
    Function { name, member: false, native, cost, overloads }
}

const fn member(name: &'static str, native: Native, cost: Cost, overloads: &'static [(&'static [P], P)]) -> Function {
    Function { name, member: true, native, cost, overloads }
}

use P::{A, Any, B, Bool, Bytes as Raw, Double, Int, List, Map, Opt, Span, Str, Time, TypeOfA, Uint};

const ONE: Cost = Cost::Fixed(1);
/// What asking the authorizer costs.
const ASK: Cost = Cost::Fixed(350_000);

/// Of what the order is known, each with its like; numbers with numbers.
const ORDERED: &[(&[P], P)] = &[
    (&[Bool, Bool], Bool),
    (&[Int, Int], Bool),
    (&[Uint, Uint], Bool),
    (&[Double, Double], Bool),
    (&[Str, Str], Bool),
    (&[Raw, Raw], Bool),
    (&[Time, Time], Bool),
    (&[Span, Span], Bool),
    (&[Int, Uint], Bool),
    (&[Int, Double], Bool),
    (&[Uint, Int], Bool),
    (&[Uint, Double], Bool),
    (&[Double, Int], Bool),
    (&[Double, Uint], Bool),
];
/// Lists whose items can be ordered.
const ORDERED_ITEMS: [P; 8] =
    [List(&Int), List(&Uint), List(&Double), List(&Bool), List(&Str), List(&Raw), List(&Time), List(&Span)];
const SORTED: &[(&[P], P)] = &[
    (&[ORDERED_ITEMS[0]], Bool),
    (&[ORDERED_ITEMS[1]], Bool),
    (&[ORDERED_ITEMS[2]], Bool),
    (&[ORDERED_ITEMS[3]], Bool),
    (&[ORDERED_ITEMS[4]], Bool),
    (&[ORDERED_ITEMS[5]], Bool),
    (&[ORDERED_ITEMS[6]], Bool),
    (&[ORDERED_ITEMS[7]], Bool),
];
const EXTREME: &[(&[P], P)] = &[
    (&[ORDERED_ITEMS[0]], Int),
    (&[ORDERED_ITEMS[1]], Uint),
    (&[ORDERED_ITEMS[2]], Double),
    (&[ORDERED_ITEMS[3]], Bool),
    (&[ORDERED_ITEMS[4]], Str),
    (&[ORDERED_ITEMS[5]], Raw),
    (&[ORDERED_ITEMS[6]], Time),
    (&[ORDERED_ITEMS[7]], Span),
];
const TEXT_TEST: &[(&[P], P)] = &[(&[Str, Str], Bool)];
const TEXT: &[(&[P], P)] = &[(&[Str], Str)];
const PART: &[(&[P], P)] = &[(&[Time], Int), (&[Time, Str], Int)];
const PART_OR_WHOLE: &[(&[P], P)] = &[(&[Time], Int), (&[Time, Str], Int), (&[Span], Int)];
const SETS: &[(&[P], P)] = &[(&[List(&A), List(&A)], Bool)];
const INDEXED: &[(&[P], P)] = &[(&[Str, Str], Int), (&[Str, Str, Int], Int), (&[List(&A), A], Int)];
/// What may equal what: anything its like, and numbers each other.
const EQUATED: &[(&[P], P)] = &[
    (&[A, A], Bool),
    (&[Int, Uint], Bool),
    (&[Int, Double], Bool),
    (&[Uint, Int], Bool),
    (&[Uint, Double], Bool),
    (&[Double, Int], Bool),
    (&[Double, Uint], Bool),
];
const COMPARED: &[(&[P], P)] = &[(&[QUANTITY, QUANTITY], Bool), (&[SEMVER, SEMVER], Bool)];
const SIZED: &[(&[P], P)] = &[(&[Str], Int), (&[Raw], Int), (&[List(&A)], Int), (&[Map(&A, &B)], Int)];
const ADDRESS_TEST: &[(&[P], P)] = &[(&[IP], Bool)];
const URL_TEXT: &[(&[P], P)] = &[(&[URL], Str)];
const NARROWED: &[(&[P], P)] = &[(&[RESOURCE_CHECK, Str], RESOURCE_CHECK)];
const IS: &[(&[P], P)] = &[(&[Str], Bool)];

static FUNCTIONS: &[Function] = &[
    global("_==_", lists::equals, Cost::Smaller, EQUATED),
    global("_!=_", lists::differs, Cost::Smaller, EQUATED),
    global("_<_", lists::less, Cost::Smaller, ORDERED),
    global("_<=_", lists::less_or_equal, Cost::Smaller, ORDERED),
    global("_>_", lists::greater, Cost::Smaller, ORDERED),
    global("_>=_", lists::greater_or_equal, Cost::Smaller, ORDERED),
    global("@in", lists::contains, Cost::Contains, &[(&[A, List(&A)], Bool), (&[A, Map(&A, &B)], Bool)]),
    global("!_", lists::not, ONE, &[(&[Bool], Bool)]),
    global("-_", number::negate, ONE, &[(&[Int], Int), (&[Double], Double), (&[Span], Span)]),
    global(
        "_+_",
        number::add,
        Cost::Texts,
        &[
            (&[Int, Int], Int),
            (&[Uint, Uint], Uint),
            (&[Double, Double], Double),
            (&[Str, Str], Str),
            (&[Raw, Raw], Raw),
            (&[List(&A), List(&A)], List(&A)),
            (&[Time, Span], Time),
            (&[Span, Time], Time),
            (&[Span, Span], Span),
        ],
    ),
    global(
        "_-_",
        number::subtract,
        ONE,
        &[
            (&[Int, Int], Int),
            (&[Uint, Uint], Uint),
            (&[Double, Double], Double),
            (&[Time, Time], Span),
            (&[Time, Span], Time),
            (&[Span, Span], Span),
        ],
    ),
    global("_*_", number::multiply, ONE, &[(&[Int, Int], Int), (&[Uint, Uint], Uint), (&[Double, Double], Double)]),
    global("_/_", number::divide, ONE, &[(&[Int, Int], Int), (&[Uint, Uint], Uint), (&[Double, Double], Double)]),
    global("_%_", number::remainder, ONE, &[(&[Int, Int], Int), (&[Uint, Uint], Uint)]),
    global(
        "_[_]",
        lists::index,
        ONE,
        &[
            (&[List(&A), Int], A),
            (&[Map(&A, &B), A], B),
            (&[Opt(&List(&A)), Int], Opt(&A)),
            (&[Opt(&Map(&A, &B)), A], Opt(&B)),
        ],
    ),
    global(
        "_[?_]",
        lists::optional_index,
        ONE,
        &[
            (&[List(&A), Int], Opt(&A)),
            (&[Map(&A, &B), A], Opt(&B)),
            (&[Opt(&List(&A)), Int], Opt(&A)),
            (&[Opt(&Map(&A, &B)), A], Opt(&B)),
        ],
    ),
    // Conversions.
    global(
        "int",
        number::to_int,
        ONE,
        &[(&[Int], Int), (&[Uint], Int), (&[Double], Int), (&[Str], Int), (&[Time], Int), (&[Span], Int)],
    ),
    global("uint", number::to_uint, ONE, &[(&[Uint], Uint), (&[Int], Uint), (&[Double], Uint), (&[Str], Uint)]),
    global(
        "double",
        number::to_double,
        ONE,
        &[(&[Double], Double), (&[Int], Double), (&[Uint], Double), (&[Str], Double)],
    ),
    global("bool", number::to_bool, ONE, &[(&[Bool], Bool), (&[Str], Bool)]),
    global(
        "string",
        number::to_string,
        Cost::Text,
        &[
            (&[Str], Str),
            (&[Bool], Str),
            (&[Int], Str),
            (&[Uint], Str),
            (&[Double], Str),
            (&[Raw], Str),
            (&[Time], Str),
            (&[Span], Str),
            (&[IP], Str),
            (&[CIDR], Str),
            (&[URL], Str),
        ],
    ),
    global("bytes", number::to_bytes, Cost::Text, &[(&[Raw], Raw), (&[Str], Raw)]),
    global("timestamp", number::to_timestamp, ONE, &[(&[Time], Time), (&[Str], Time), (&[Int], Time)]),
    global("duration", number::to_duration, ONE, &[(&[Span], Span), (&[Str], Span), (&[Int], Span)]),
    global("type", lists::type_of, ONE, &[(&[A], TypeOfA)]),
    global("dyn", lists::same, ONE, &[(&[A], Any)]),
    // Texts.
    global("size", text::size, ONE, SIZED),
    member("size", text::size, ONE, SIZED),
    member("startsWith", text::starts_with, Cost::Smaller, TEXT_TEST),
    member("endsWith", text::ends_with, Cost::Smaller, TEXT_TEST),
    member("contains", text::contains, Cost::Search, TEXT_TEST),
    member("matches", text::matches, Cost::Regex, TEXT_TEST),
    global("matches", text::matches, Cost::Regex, TEXT_TEST),
    member("find", text::find, Cost::Regex, &[(&[Str, Str], Str)]),
    member("findAll", text::find_all, Cost::Regex, &[(&[Str, Str], List(&Str)), (&[Str, Str, Int], List(&Str))]),
    member("charAt", text::char_at, Cost::Text, &[(&[Str, Int], Str)]),
    member("indexOf", text::index_of, Cost::Search, INDEXED),
    member("lastIndexOf", text::last_index_of, Cost::Search, INDEXED),
    member("join", text::join, Cost::Items, &[(&[List(&Str)], Str), (&[List(&Str), Str], Str)]),
    member("lowerAscii", text::lower_ascii, Cost::Text, TEXT),
    member("upperAscii", text::upper_ascii, Cost::Text, TEXT),
    member("replace", text::replace, Cost::Search, &[(&[Str, Str, Str], Str), (&[Str, Str, Str, Int], Str)]),
    member("split", text::split, Cost::Text, &[(&[Str, Str], List(&Str)), (&[Str, Str, Int], List(&Str))]),
    member("substring", text::substring, Cost::Text, &[(&[Str, Int], Str), (&[Str, Int, Int], Str)]),
    member("trim", text::trim, Cost::Text, TEXT),
    member("reverse", text::reverse, Cost::Text, &[(&[Str], Str), (&[List(&A)], List(&A))]),
    member("format", text::format, Cost::Text, &[(&[Str, List(&Any)], Str)]),
    global("strings.quote", text::quote, Cost::Text, TEXT),
    // Lists and sets.
    member("isSorted", lists::is_sorted, Cost::Items, SORTED),
    member(
        "sum",
        lists::sum,
        Cost::Items,
        &[(&[List(&Int)], Int), (&[List(&Uint)], Uint), (&[List(&Double)], Double), (&[List(&Span)], Span)],
    ),
    member("min", lists::min, Cost::Items, EXTREME),
    member("max", lists::max, Cost::Items, EXTREME),
    member("slice", lists::slice, Cost::Items, &[(&[List(&A), Int, Int], List(&A))]),
    member("first", lists::first, ONE, &[(&[List(&A)], Opt(&A))]),
    member("last", lists::last, ONE, &[(&[List(&A)], Opt(&A))]),
    global("sets.contains", lists::sets_contains, Cost::Product, SETS),
    global("sets.equivalent", lists::sets_equivalent, Cost::Product, SETS),
    global("sets.intersects", lists::sets_intersects, Cost::Product, SETS),
    // Optionals.
    global("optional.of", lists::optional_of, ONE, &[(&[A], Opt(&A))]),
    global("optional.ofNonZeroValue", lists::optional_non_zero, ONE, &[(&[A], Opt(&A))]),
    global("optional.none", lists::optional_none, ONE, &[(&[], Opt(&A))]),
    global("optional.unwrap", lists::optional_unwrap, Cost::Items, &[(&[List(&Opt(&A))], List(&A))]),
    member("unwrapOpt", lists::optional_unwrap, Cost::Items, &[(&[List(&Opt(&A))], List(&A))]),
    member("hasValue", lists::has_value, ONE, &[(&[Opt(&A)], Bool)]),
    member("value", lists::optional_value, ONE, &[(&[Opt(&A)], A)]),
    member("or", lists::or, ONE, &[(&[Opt(&A), Opt(&A)], Opt(&A))]),
    member("orValue", lists::or_value, ONE, &[(&[Opt(&A), A], A)]),
    // Times.
    member("getFullYear", lists::full_year, ONE, PART),
    member("getMonth", lists::month, ONE, PART),
    member("getDate", lists::date, ONE, PART),
    member("getDayOfMonth", lists::day_of_month, ONE, PART),
    member("getDayOfWeek", lists::day_of_week, ONE, PART),
    member("getDayOfYear", lists::day_of_year, ONE, PART),
    member("getHours", lists::hours, ONE, PART_OR_WHOLE),
    member("getMinutes", lists::minutes, ONE, PART_OR_WHOLE),
    member("getSeconds", lists::seconds, ONE, PART_OR_WHOLE),
    member("getMilliseconds", lists::milliseconds, ONE, PART_OR_WHOLE),
    // What Kubernetes adds.
    global("url", url::url, Cost::Text, &[(&[Str], URL)]),
    global("isURL", url::is_url, Cost::Text, IS),
    member("getScheme", url::scheme, ONE, URL_TEXT),
    member("getHost", url::host, ONE, URL_TEXT),
    member("getHostname", url::hostname, ONE, URL_TEXT),
    member("getPort", url::port, ONE, URL_TEXT),
    member("getEscapedPath", url::escaped_path, ONE, URL_TEXT),
    member("getQuery", url::query, ONE, &[(&[URL], Map(&Str, &List(&Str)))]),
    global("quantity", quantity::quantity, Cost::Text, &[(&[Str], QUANTITY)]),
    global("isQuantity", quantity::is_quantity, Cost::Text, IS),
    member("sign", quantity::sign, ONE, &[(&[QUANTITY], Int)]),
    member("isInteger", quantity::is_integer, ONE, &[(&[QUANTITY], Bool)]),
    member("asInteger", quantity::as_integer, ONE, &[(&[QUANTITY], Int)]),
    member("asApproximateFloat", quantity::as_float, ONE, &[(&[QUANTITY], Double)]),
    member("add", quantity::add, ONE, &[(&[QUANTITY, QUANTITY], QUANTITY), (&[QUANTITY, Int], QUANTITY)]),
    member("sub", quantity::subtract, ONE, &[(&[QUANTITY, QUANTITY], QUANTITY), (&[QUANTITY, Int], QUANTITY)]),
    member("isLessThan", quantity::is_less, ONE, COMPARED),
    member("isGreaterThan", quantity::is_greater, ONE, COMPARED),
    member("compareTo", quantity::compare, ONE, &[(&[QUANTITY, QUANTITY], Int), (&[SEMVER, SEMVER], Int)]),
    global("semver", semver::semver, Cost::Text, &[(&[Str], SEMVER), (&[Str, Bool], SEMVER)]),
    global("isSemver", semver::is_semver, Cost::Text, &[(&[Str], Bool), (&[Str, Bool], Bool)]),
    member("major", semver::major, ONE, &[(&[SEMVER], Int)]),
    member("minor", semver::minor, ONE, &[(&[SEMVER], Int)]),
    member("patch", semver::patch, ONE, &[(&[SEMVER], Int)]),
    global("ip", ip::ip, Cost::Text, &[(&[Str], IP)]),
    global("isIP", ip::is_ip, Cost::Text, IS),
    global("ip.isCanonical", ip::is_canonical, Cost::Text, IS),
    member("family", ip::family, ONE, &[(&[IP], Int)]),
    member("isUnspecified", ip::is_unspecified, ONE, ADDRESS_TEST),
    member("isLoopback", ip::is_loopback, ONE, ADDRESS_TEST),
    member("isLinkLocalMulticast", ip::is_link_local_multicast, ONE, ADDRESS_TEST),
    member("isLinkLocalUnicast", ip::is_link_local_unicast, ONE, ADDRESS_TEST),
    member("isGlobalUnicast", ip::is_global_unicast, ONE, ADDRESS_TEST),
    global("cidr", cidr::cidr, Cost::Text, &[(&[Str], CIDR)]),
    global("isCIDR", cidr::is_cidr, Cost::Text, IS),
    member("containsIP", cidr::contains_ip, Cost::Text, &[(&[CIDR, Str], Bool), (&[CIDR, IP], Bool)]),
    member("containsCIDR", cidr::contains_cidr, Cost::Text, &[(&[CIDR, Str], Bool), (&[CIDR, CIDR], Bool)]),
    member("ip", ip::ip, ONE, &[(&[CIDR], IP)]),
    member("masked", cidr::masked, ONE, &[(&[CIDR], CIDR)]),
    member("prefixLength", cidr::prefix_length, ONE, &[(&[CIDR], Int)]),
    global("format.named", format::named, ONE, &[(&[Str], Opt(&FORMAT))]),
    member("validate", format::validate, Cost::Text, &[(&[FORMAT, Str], Opt(&List(&Str)))]),
    global("jsonpatch.escapeKey", kubernetes::escape_key, Cost::Text, TEXT),
    // The authorizer.
    member("path", authorizer::path, ONE, &[(&[AUTHORIZER, Str], PATH_CHECK)]),
    member("group", authorizer::group, ONE, &[(&[AUTHORIZER, Str], GROUP_CHECK)]),
    member("serviceAccount", authorizer::service_account, ONE, &[(&[AUTHORIZER, Str, Str], AUTHORIZER)]),
    member("resource", authorizer::resource, ONE, &[(&[GROUP_CHECK, Str], RESOURCE_CHECK)]),
    member("subresource", authorizer::subresource, ONE, NARROWED),
    member("namespace", authorizer::namespace, ONE, NARROWED),
    member("name", authorizer::name, ONE, NARROWED),
    member("fieldSelector", authorizer::field_selector, ONE, NARROWED),
    member("labelSelector", authorizer::label_selector, ONE, NARROWED),
    member("check", authorizer::decide, ASK, &[(&[PATH_CHECK, Str], DECISION), (&[RESOURCE_CHECK, Str], DECISION)]),
    member("allowed", authorizer::allowed, ONE, &[(&[DECISION], Bool)]),
    member("reason", authorizer::reason, ONE, &[(&[DECISION], Str)]),
    member("errored", authorizer::errored, ONE, &[(&[DECISION], Bool)]),
    member("error", authorizer::error, ONE, &[(&[DECISION], Str)]),
];
