// Oauth-loopback is how a desktop program lets its user log in with the browser: it opens the provider's page, and
// catches the redirect that follows on 127.0.0.1 (RFC 8252), with a state and a code challenge (RFC 7636). Then the
// server ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"time"
)

func main() {
	authorize := flag.String("authorize", "https://provider.example/authorize", "the provider's page")
	client := flag.String("client", "demo", "the program's identifier at the provider")
	patience := flag.Duration("patience", 5*time.Minute, "how long the user may take")
	flag.Parse()
	if err := run(*authorize, *client, *patience); err != nil {
		fmt.Fprintln(os.Stderr, "oauth-loopback:", err)
		os.Exit(1)
	}
}

func run(authorize, client string, patience time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	page, err := url.Parse(authorize)
	if err != nil {
		return err
	}
	// A program with a user interface opens the page itself: fyne.App.OpenURL, for example.
	show := func(page string) error {
		_, err := fmt.Println("open in a browser:", page)
		return err
	}
	granted, err := login(ctx, page, client, show)
	if err != nil {
		return err
	}
	// The provider exchanges these for a token, in a request that is not part of this example.
	fmt.Println("code:", granted.Code)
	fmt.Println("code verifier:", granted.Verifier)
	fmt.Println("redirect URI:", granted.RedirectURI)
	return nil
}
