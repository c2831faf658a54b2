%% Like guests/load.rs.
-module(load).
-export([main/1]).

-define(TOGETHER, 200).

main([What, Places, Times]) ->
    Kind = list_to_existing_atom(What),
    run(Kind, list_to_integer(Places), ?TOGETHER),
    PerSecond = run(Kind, list_to_integer(Places), list_to_integer(Times)),
    io:format("~f~n", [PerSecond]),
    halt().

run(Kind, Places, Times) ->
    Parent = self(),
    Start = erlang:monotonic_time(nanosecond),
    [erlang:spawn(fun() -> place(Kind, Times), Parent ! done end) || _ <- lists:seq(1, Places)],
    gather(Places),
    Places * Times * 1.0e9 / (erlang:monotonic_time(nanosecond) - Start).

place(_, 0) ->
    ok;
place(spawn, Times) ->
    Parent = self(),
    start(Parent, ?TOGETHER),
    gather(?TOGETHER),
    place(spawn, Times - ?TOGETHER);
place(ping, Times) ->
    Partner = erlang:spawn(fun partner/0),
    ping(Partner, Times),
    exit(Partner, kill).

start(_, 0) ->
    ok;
start(Parent, Count) ->
    erlang:spawn(fun() -> Parent ! done end),
    start(Parent, Count - 1).

gather(0) ->
    ok;
gather(Count) ->
    receive done -> gather(Count - 1) end.

ping(_, 0) ->
    ok;
ping(Partner, Number) ->
    Partner ! {ball, self(), Number, <<"ping">>},
    receive {ball, Partner, Number, _} -> ping(Partner, Number - 1) end.

partner() ->
    receive {ball, From, Number, Word} -> From ! {ball, self(), Number, Word} end,
    partner().
