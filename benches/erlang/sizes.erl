%% Like guests/sizes.rs. Erlang processes share binaries larger than 64 bytes instead of copying them.
%% Our processes share nothing, so each process here makes a copy before it sends.
-module(sizes).
-export([main/1]).

main([Size, Times]) ->
    Parent = self(),
    Partner = erlang:spawn(fun() -> throw_back(Parent) end),
    Ball = binary:copy(<<1>>, list_to_integer(Size)),
    Count = list_to_integer(Times),
    Start = erlang:monotonic_time(nanosecond),
    throw(Partner, Ball, Count),
    io:format("~f~n", [Count * 1.0e9 / (erlang:monotonic_time(nanosecond) - Start)]),
    halt().

throw(_, _, 0) ->
    ok;
throw(Partner, Ball, Count) ->
    Partner ! binary:copy(Ball),
    receive Back -> throw(Partner, Back, Count - 1) end.

throw_back(Parent) ->
    receive Ball -> Parent ! binary:copy(Ball) end,
    throw_back(Parent).
