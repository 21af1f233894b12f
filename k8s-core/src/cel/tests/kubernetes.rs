//! What Kubernetes adds to the language.

use std::rc::Rc;

use super::check;
use crate::cel::{
    Activation, Budget, Declarations, Program, Type,
    authorizer::{Authorizer, Check, Decision, Question},
};

#[test]
fn urls() {
    check(&[
        ("url('https://user@example.com:80/a b?k=1&k=2#f').getScheme()", "https"),
        ("url('https://example.com:8080/path').getHost()", "example.com:8080"),
        ("url('https://example.com:8080/path').getHostname()", "example.com"),
        ("url('https://example.com:8080/path').getPort()", "8080"),
        ("url('https://example.com/path').getPort()", ""),
        ("url('https://[::1]:80/').getHost()", "[::1]:80"),
        ("url('https://[::1]:80/').getHostname()", "::1"),
        ("url('https://example.com/with space/').getEscapedPath()", "/with%20space/"),
        ("url('https://example.com?k=a&k=b&l=c%20d').getQuery()", "{k: [a, b], l: [c d]}"),
        ("url('/path').getHost()", ""),
        ("url('/path?a=b').getEscapedPath()", "/path"),
        ("isURL('https://example.com')", "true"),
        ("isURL('../relative')", "false"),
        ("isURL('https://a:b:c/')", "false"),
        ("isURL('')", "false"),
        ("url('https://a.b/') == url('https://a.b/')", "true"),
        ("type(url('/')) == kubernetes.URL", "true"),
    ]);
}

#[test]
fn quantities() {
    check(&[
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", "true"),
        ("quantity('100m').isLessThan(quantity('1'))", "true"),
        ("quantity('1').compareTo(quantity('1000m'))", "0"),
        ("quantity('1') == quantity('1000m')", "true"),
        ("quantity('50k').asInteger()", "50000"),
        ("quantity('100m').isInteger()", "false"),
        ("quantity('100m').asInteger()", "error: cannot convert value to integer"),
        ("quantity('1.5').asApproximateFloat()", "1.5"),
        ("quantity('-1').sign()", "-1"),
        ("quantity('1').add(quantity('500m')).compareTo(quantity('1500m'))", "0"),
        ("quantity('50k').add(20) == quantity('50020')", "true"),
        ("quantity('50k').sub(20) == quantity('49980')", "true"),
        ("isQuantity('1.3Gi')", "true"),
        ("isQuantity('1,3')", "false"),
        (
            "quantity('x').sign()",
            "error: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("quantity(1)", "compile: found no matching overload for 'quantity' applied to '(int)'"),
    ]);
}

#[test]
fn addresses() {
    check(&[
        ("ip('127.0.0.1').family()", "4"),
        ("ip('::1').family()", "6"),
        ("ip('127.0.0.1').isLoopback()", "true"),
        ("ip('0.0.0.0').isUnspecified()", "true"),
        ("ip('224.0.0.1').isLinkLocalMulticast()", "true"),
        ("ip('169.254.1.1').isLinkLocalUnicast()", "true"),
        ("ip('8.8.8.8').isGlobalUnicast()", "true"),
        ("ip('255.255.255.255').isGlobalUnicast()", "false"),
        ("isIP('1.2.3.4')", "true"),
        ("isIP('1.2.3.256')", "false"),
        ("isIP('::ffff:1.2.3.4')", "false"),
        ("isIP('01.2.3.4')", "false"),
        ("ip.isCanonical('2001:db8::abcd')", "true"),
        ("ip.isCanonical('2001:DB8::ABCD')", "false"),
        ("string(ip('1.2.3.4'))", "1.2.3.4"),
        ("ip('1.2.3.4') == ip('1.2.3.4')", "true"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", "true"),
        ("cidr('10.0.0.0/8').containsIP(ip('11.1.2.3'))", "false"),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
        ("cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))", "false"),
        ("cidr('192.168.1.5/24').ip()", "192.168.1.5"),
        ("string(cidr('192.168.1.5/24').masked())", "192.168.1.0/24"),
        ("cidr('192.168.1.5/24').prefixLength()", "24"),
        ("cidr('2001:db8::/32').containsIP('2001:db8::1')", "true"),
        ("cidr('0.0.0.0/0').containsIP('1.2.3.4')", "true"),
        ("isCIDR('10.0.0.0/8')", "true"),
        ("isCIDR('10.0.0.0/33')", "false"),
        ("isCIDR('10.0.0.0')", "false"),
        ("type(ip('::1')) == net.IP", "true"),
    ]);
}

#[test]
fn versions_and_formats() {
    check(&[
        ("semver('1.2.3').major()", "1"),
        ("semver('1.2.3').minor()", "2"),
        ("semver('1.2.3').patch()", "3"),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", "true"),
        ("semver('1.0.0-alpha').isLessThan(semver('1.0.0'))", "true"),
        ("semver('1.0.0-alpha.2').isGreaterThan(semver('1.0.0-alpha.1'))", "true"),
        ("semver('1.0.0+a').compareTo(semver('1.0.0+b'))", "0"),
        ("isSemver('1.2.3')", "true"),
        ("isSemver('v1.2')", "false"),
        ("isSemver('v1.2', true)", "true"),
        ("semver('v01.2', true).minor()", "2"),
        ("semver('01.2.3')", "error: version number must not contain leading zeroes \"01\""),
        ("format.dns1123Label().validate('my-label').hasValue()", "false"),
        ("format.dns1123Label().validate('My-Label').hasValue()", "true"),
        ("format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", "false"),
        ("format.named('nothing').hasValue()", "false"),
        ("!format.labelValue().validate('a b').hasValue()", "false"),
        ("format.uri().validate('not a uri').value().size()", "1"),
        ("format.date().validate('2020-01-32').hasValue()", "true"),
        ("jsonpatch.escapeKey('k8s.io/my~label')", "k8s.io~1my~0label"),
    ]);
}

struct Fake;

impl Authorizer for Fake {
    fn decide(&self, question: &Question) -> Decision {
        let Question { path, group, resource, subresource, namespace, name, verb, .. } = question;
        let asked = match path {
            Some(path) => format!("{verb} {path}"),
            None => format!("{verb} {group}/{resource}/{subresource} {namespace}/{name}"),
        };
        let account = question.service_account.as_ref().map_or(String::new(), |(ns, name)| format!(" as {ns}:{name}"));
        Decision { allowed: verb == "get", reason: asked + &account, error: String::new() }
    }
}

#[test]
fn the_authorizer_is_asked_what_the_expression_says() {
    let declared = Declarations::new().variable_of("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"));
    let table = [
        ("authorizer.path('/healthz').check('get').allowed()", "true"),
        ("authorizer.path('/healthz').check('post').reason()", "post /healthz"),
        ("authorizer.group('apps').resource('deployments').check('create').reason()", "create apps/deployments/ /"),
        (
            "authorizer.group('').resource('pods').subresource('log').namespace('n').name('p').check('get').reason()",
            "get /pods/log n/p",
        ),
        (
            "authorizer.serviceAccount('n', 'sa').group('').resource('pods').check('get').reason()",
            "get /pods/ / as n:sa",
        ),
        ("authorizer.path('/').check('get').errored()", "false"),
        (
            "authorizer.check('get')",
            "compile: found no matching overload for 'check' applied to 'kubernetes.authorization.Authorizer.(string)'",
        ),
        ("authorizer.path('').check('get').allowed()", "error: path must not be empty"),
    ];
    super::check_with(&table, |source| {
        let program = match Program::compile(source, &declared) {
            Ok(program) => program,
            Err(why) => return format!("compile: {}", why.issues()[0].message),
        };
        let variables = Activation::new().bind("authorizer", Check::authorizer(Rc::new(Fake)));
        let mut budget = Budget::new(1_000_000);
        super::shown(program.evaluate(&variables, &mut budget))
    });
}

#[test]
fn asking_is_dear() {
    let declared = Declarations::new().variable_of("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"));
    let rule = "[1, 2, 3].all(x, authorizer.path('/').check('get').allowed())";
    let program = Program::compile(rule, &declared).unwrap();
    let variables = Activation::new().bind("authorizer", Check::authorizer(Rc::new(Fake)));
    let outcome = program.evaluate(&variables, &mut Budget::new(10_000_000));
    assert!(outcome.unwrap_err().is_budget());
}
