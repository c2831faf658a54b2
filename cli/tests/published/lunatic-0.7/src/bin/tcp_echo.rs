// The third program of the introduction, word for word.
include!("../../../../seeds/tcp_echo.rs");
