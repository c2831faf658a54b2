%% Like guests/echo.rs.
-module(echo).
-export([main/0]).

main() ->
    Options = [binary, {active, false}, {reuseaddr, true}, {nodelay, true}, {backlog, 1024}, {ip, {127, 0, 0, 1}}],
    {ok, Listener} = gen_tcp:listen(0, Options),
    {ok, Port} = inet:port(Listener),
    io:format("127.0.0.1:~w~n", [Port]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Process = spawn(fun() -> receive go -> echo(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Process),
    Process ! go,
    accept(Listener).

echo(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Bytes} -> gen_tcp:send(Socket, Bytes), echo(Socket);
        {error, _} -> ok
    end.
