//! The container shim as a program of its own, for those who do not want their program to execute itself.

fn main() -> std::process::ExitCode {
    let code = k8s_node::shim::main(std::env::args_os().skip(1));
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}
