// Requests: one process answers, another asks, by nats.go's Request and a queue subscription's callback; see ../asking.py.
//
//	asking answer|ask URL REQUESTS IN_FLIGHT
//
// Whoever answers says "ready"; whoever asks keeps so many requests in flight, and says what it measured, as ../meter.py does: the clock
// starts after the first tenth of the requests.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	subject  = "quotes.ada"
	patience = 5 * time.Second
	size     = 150
)

type order struct {
	ID       string  `json:"id"`
	Customer string  `json:"customer"`
	Total    float64 `json:"total"`
	Items    []int   `json:"items"`
	Note     string  `json:"note"`
}

type quote struct {
	ID    string  `json:"id"`
	Total float64 `json:"total"`
}

type measured struct {
	Rate   float64 `json:"rate"`
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
}

func main() {
	client := must(nats.Connect(os.Args[2]))
	if os.Args[1] == "answer" {
		answer(client)
	} else {
		ask(client, must(strconv.Atoi(os.Args[3])), must(strconv.Atoi(os.Args[4])))
	}
}

func answer(client *nats.Conn) {
	must(client.QueueSubscribe("quotes.*", "q", func(message *nats.Msg) {
		var found order
		check(json.Unmarshal(message.Data, &found))
		check(message.Respond(must(json.Marshal(quote{found.ID, found.Total}))))
	}))
	check(client.Flush())
	fmt.Println("ready")
	select {}
}

func ask(client *nats.Conn, requests, inFlight int) {
	asked := order{"o-123456", "customer-42", 99.5, []int{1, 2, 3, 4, 5, 6}, ""}
	asked.Note = strings.Repeat("x", size-len(must(json.Marshal(asked))))
	one(client, &asked) // who answers is known, before the clock starts
	warm := int64(requests / 10)
	var begun, done atomic.Int64
	var began, ended time.Time
	var before, after float64
	var asking sync.WaitGroup
	delays := make([][]time.Duration, inFlight)
	for at := range inFlight {
		asking.Go(func() {
			for begun.Add(1) <= int64(requests) {
				sent := time.Now()
				one(client, &asked)
				delays[at] = append(delays[at], time.Since(sent))
				switch done.Add(1) {
				case warm:
					began, before = time.Now(), used()
				case int64(requests):
					ended, after = time.Now(), used()
				}
			}
		})
	}
	asking.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(delays...)))
	counted := float64(int64(requests) - warm)
	check(json.NewEncoder(os.Stdout).Encode(measured{
		Rate:   counted / ended.Sub(began).Seconds(),
		CPU:    (after - before) / counted * 1e6,
		Memory: peak(),
		P50:    milliseconds(all[len(all)/2]),
		P99:    milliseconds(all[len(all)*99/100]),
	}))
}

func one(client *nats.Conn, asked *order) {
	var found quote
	message := must(client.Request(subject, must(json.Marshal(asked)), patience))
	check(json.Unmarshal(message.Data, &found))
}

func milliseconds(delay time.Duration) float64 {
	return float64(delay.Nanoseconds()) / 1e6
}

// Seconds of CPU that this process has used.
func used() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// Most megabytes that this process has had in memory; 0 where there is no /proc.
func peak() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	found := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`).FindSubmatch(status)
	if found == nil {
		return 0
	}
	return must(strconv.ParseFloat(string(found[1]), 64)) / 1024
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
