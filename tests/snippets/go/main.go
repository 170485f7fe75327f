// nats.go with a token callback, as the README shows it; prints what it hears on orders.>.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/nats-io/nats.go"
)

// In production: azidentity's GetToken with the scope api://nats-prod/.default.
func token() string {
	answer, err := http.Get(os.Getenv("TOKEN_URL"))
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return string(text)
}

func main() {
	// README: begin
	nc, err := nats.Connect(os.Getenv("NATS_URL"),
		nats.TokenHandler(token), // asked at every connect and reconnect
		nats.MaxReconnects(-1))
	// README: end
	if err != nil {
		log.Fatal(err)
	}
	if _, err := nc.Subscribe("orders.>", func(m *nats.Msg) { fmt.Println(string(m.Data)) }); err != nil {
		log.Fatal(err)
	}
	select {}
}
