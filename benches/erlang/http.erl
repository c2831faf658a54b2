%% Like guests/http.rs, but uses the HTTP parser of Erlang's sockets.
-module(http).
-export([main/0]).

-define(HELLO, <<"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!">>).

main() ->
    Options = [binary, {packet, http_bin}, {active, false}, {reuseaddr, true}, {nodelay, true}, {backlog, 1024},
               {ip, {127, 0, 0, 1}}],
    {ok, Listener} = gen_tcp:listen(0, Options),
    {ok, Port} = inet:port(Listener),
    io:format("127.0.0.1:~w~n", [Port]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Process = spawn(fun() -> receive go -> serve(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Process),
    Process ! go,
    accept(Listener).

serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, http_eoh} -> gen_tcp:send(Socket, ?HELLO), serve(Socket);
        {ok, {http_error, _}} -> gen_tcp:close(Socket);
        {ok, _} -> serve(Socket);
        {error, _} -> ok
    end.
