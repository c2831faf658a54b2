%% Like guests/crowd.rs, but also prints the number of bytes per process.
-module(crowd).
-export([main/1]).

-define(TOGETHER, 200).

main([Wanted, Bytes]) ->
    Before = memory(),
    Start = erlang:monotonic_time(nanosecond),
    Count = list_to_integer(Wanted),
    spawn_all(Count, list_to_integer(Bytes)),
    Each = (erlang:monotonic_time(nanosecond) - Start) / Count / 1000,
    io:format("~w~n~f~n~f~n", [Count, Each, (memory() - Before) / Count]),
    halt().

spawn_all(Count, _) when Count =< 0 ->
    ok;
spawn_all(Count, Bytes) ->
    Parent = self(),
    Now = min(Count, ?TOGETHER),
    Spawned = [erlang:spawn(fun() -> wait(Parent, Bytes) end) || _ <- lists:seq(1, Now)],
    [Process ! use || Bytes > 0, Process <- Spawned],
    [receive done -> ok end || _ <- lists:seq(1, Now)],
    spawn_all(Count - Now, Bytes).

%% Each list element takes 16 bytes of heap.
wait(Parent, Bytes) ->
    if Bytes > 0 -> receive use -> ok end; true -> ok end,
    List = lists:seq(1, Bytes div 16),
    Parent ! done,
    receive stop -> length(List) end.

%% Returns the number of resident bytes, counting each page once, plus page tables.
memory() ->
    number("/proc/self/smaps_rollup", "Pss:") + number("/proc/self/status", "VmPTE:").

number(File, Name) ->
    {ok, Text} = file:read_file(File),
    {match, [Digits]} = re:run(Text, Name ++ "\\s+([0-9]+)", [{capture, all_but_first, list}]),
    list_to_integer(Digits) * 1024.
