// Like guests/crowd.rs, with goroutines as processes and channels as mailboxes, but also prints the
// number of bytes per goroutine.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const together = 200

func main() {
	wanted, bytes := number(os.Args[1]), number(os.Args[2])
	before := memory()
	start := time.Now()
	done := make(chan struct{}, together)
	for alive := 0; alive < wanted; alive += together {
		var spawned []chan int
		for one := 0; one < together && alive+one < wanted; one++ {
			mailbox := make(chan int, 1)
			spawned = append(spawned, mailbox)
			go wait(mailbox, bytes, done)
		}
		for _, mailbox := range spawned {
			if bytes > 0 {
				mailbox <- 1
			}
		}
		for range spawned {
			<-done
		}
	}
	each := float64(time.Since(start).Microseconds()) / float64(wanted)
	fmt.Printf("%d\n%f\n%f\n", wanted, each, (memory()-before)/float64(wanted))
}

// Waits in a goroutine whose heap stays in use until the goroutine ends, as in Erlang.
func wait(mailbox chan int, bytes int, done chan struct{}) {
	var heap []byte
	if bytes > 0 {
		<-mailbox
		heap = make([]byte, bytes)
		for place := range heap {
			heap[place] = 1
		}
	}
	done <- struct{}{}
	<-mailbox
	runtime.KeepAlive(heap)
}

// Returns the number of resident bytes, counting each page once, plus page tables.
func memory() float64 {
	return value("/proc/self/smaps_rollup", "Pss:") + value("/proc/self/status", "VmPTE:")
}

func value(file string, name string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(string(text), name)
	return float64(number(strings.Fields(rest)[0])) * 1024
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return number
}
