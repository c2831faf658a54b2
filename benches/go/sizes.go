// Like guests/sizes.rs. Go sends only the address of the bytes. Our processes share nothing, so each
// goroutine here makes a copy before it sends.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	size, times := number(os.Args[1]), number(os.Args[2])
	mailbox, partner := make(chan []byte, 1), make(chan []byte, 1)
	go func() {
		for ball := range partner {
			mailbox <- copied(ball)
		}
	}()
	ball := make([]byte, size)
	start := time.Now()
	for count := 0; count < times; count++ {
		partner <- copied(ball)
		ball = <-mailbox
	}
	fmt.Println(float64(times) / time.Since(start).Seconds())
}

func copied(ball []byte) []byte {
	return append([]byte(nil), ball...)
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return number
}
