%% Like guests/beside.rs.
-module(beside).
-export([main/1]).

main([Spinners, Times, When]) ->
    Parent = self(),
    Count = list_to_integer(Spinners),
    [erlang:spawn(fun() -> Parent ! spinner, spin() end) || _ <- lists:seq(1, Count)],
    [receive spinner -> ok end || When =:= "spent", _ <- lists:seq(1, Count)],
    trips(list_to_integer(Times)),
    halt().

trips(0) ->
    ok;
trips(Times) ->
    Parent = self(),
    Start = erlang:monotonic_time(nanosecond),
    erlang:spawn(fun() -> Parent ! child end),
    receive child -> ok end,
    io:format("~f~n", [(erlang:monotonic_time(nanosecond) - Start) / 1000]),
    trips(Times - 1).

spin() ->
    spin().
