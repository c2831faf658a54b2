// The third program in the introduction, verbatim.
include!("../../../../seeds/tcp_echo.rs");
