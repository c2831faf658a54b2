// Like guests/load.rs, with goroutines as processes and channels as mailboxes.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

const together = 200

// The message that two goroutines send back and forth.
type ball struct {
	from   chan ball
	number int
	word   string
}

func main() {
	loads := map[string]func(int){"spawn": spawn, "ping": ping}
	load, places, times := loads[os.Args[1]], number(os.Args[2]), number(os.Args[3])
	run(load, places, together)
	fmt.Println(run(load, places, times))
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return number
}

// Returns the number of spawns or round trips per second.
func run(load func(int), places int, times int) float64 {
	start := time.Now()
	done := make(chan struct{})
	for place := 0; place < places; place++ {
		go func() {
			load(times)
			done <- struct{}{}
		}()
	}
	for place := 0; place < places; place++ {
		<-done
	}
	return float64(places*times) / time.Since(start).Seconds()
}

func spawn(times int) {
	mailbox := make(chan struct{}, together)
	for round := 0; round < times/together; round++ {
		for one := 0; one < together; one++ {
			go func() { mailbox <- struct{}{} }()
		}
		for one := 0; one < together; one++ {
			<-mailbox
		}
	}
}

func ping(times int) {
	mailbox, partner := make(chan ball, 1), make(chan ball, 1)
	go func() {
		for caught := range partner {
			caught.from <- ball{partner, caught.number, caught.word}
		}
	}()
	for number := 0; number < times; number++ {
		partner <- ball{mailbox, number, "ping"}
		if caught := <-mailbox; caught.number != number {
			panic("the partner returned a different ball")
		}
	}
	close(partner)
}
