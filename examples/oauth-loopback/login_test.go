package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

// A browser is sent to the provider's page and from there to where the provider wants it.
type browser struct {
	t    *testing.T
	page url.Values // of the provider
}

// visit returns the function that login calls. The redirect gets the given values, and the state if there is none.
func (b *browser) visit(redirects ...url.Values) func(page string) error {
	return func(page string) error {
		u, err := url.Parse(page)
		require.NoError(b.t, err)
		b.page = u.Query()
		for _, q := range redirects {
			if !q.Has("state") {
				q.Set("state", b.page.Get("state"))
			}
			b.load(q)
		}
		return nil
	}
}

func (b *browser) load(q url.Values) (status int, text string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(b.page.Get("redirect_uri") + "?" + q.Encode())
	require.NoError(b.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(b.t, err)
	return answer.StatusCode, string(body)
}

func provider(t *testing.T) *url.URL {
	u, err := url.Parse("https://provider.example/authorize?audience=all")
	require.NoError(t, err)
	return u
}

func TestLoginReturnsCodeOfRedirect(t *testing.T) {
	b := &browser{t: t}
	granted, err := login(servertest.Context(t), provider(t), "me", b.visit(url.Values{"code": {"c0de"}}))
	require.NoError(t, err)
	assert.Equal(t, "c0de", granted.Code)
	assert.Equal(t, b.page.Get("redirect_uri"), granted.RedirectURI)
	assert.Equal(t, "all", b.page.Get("audience"), "what the page's address has already")
	assert.Equal(t, "code", b.page.Get("response_type"))
	assert.Equal(t, "me", b.page.Get("client_id"))
	assert.Equal(t, "S256", b.page.Get("code_challenge_method"))
	challenge := sha256.Sum256([]byte(granted.Verifier))
	assert.Equal(t, base64.RawURLEncoding.EncodeToString(challenge[:]), b.page.Get("code_challenge"))
	assert.GreaterOrEqual(t, len(granted.Verifier), 43)

	u, err := url.Parse(granted.RedirectURI)
	require.NoError(t, err)
	_, err = net.Dial("tcp", u.Host)
	require.Error(t, err, "the server must have ended")
}

func TestBrowserIsToldToCloseTheWindow(t *testing.T) {
	b := &browser{t: t}
	visited := func(page string) error {
		u, err := url.Parse(page)
		require.NoError(t, err)
		b.page = u.Query()
		status, text := b.load(url.Values{"code": {"c"}, "state": {b.page.Get("state")}})
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, text, "You are logged in.")
		assert.Contains(t, text, "You may close this window.")
		status, _ = b.load(url.Values{"code": {"c"}, "state": {b.page.Get("state")}})
		assert.Equal(t, http.StatusOK, status, "loaded again")
		return nil
	}
	_, err := login(servertest.Context(t), provider(t), "me", visited)
	require.NoError(t, err)
}

// Any page that the user has open can send the browser to 127.0.0.1.
func TestRedirectWithoutStateChangesNothing(t *testing.T) {
	b := &browser{t: t}
	forged := url.Values{"code": {"forged"}, "state": {"guessed"}}
	granted, err := login(servertest.Context(t), provider(t), "me",
		b.visit(forged, url.Values{"code": {"forged"}, "state": {""}}, url.Values{"code": {"right"}}))
	require.NoError(t, err)
	require.Equal(t, "right", granted.Code)
}

func TestRefusalIsReported(t *testing.T) {
	for want, q := range map[string]url.Values{
		"access_denied": {"error": {"access_denied"}},
		"no code":       {},
	} {
		b := &browser{t: t}
		_, err := login(servertest.Context(t), provider(t), "me", b.visit(q))
		require.ErrorContains(t, err, want)
	}
}

// The browser has been told that the user is logged in.
func TestResultCountsAlthoughTheContextHasEnded(t *testing.T) {
	for range 20 { // select would choose either
		ctx, cancel := context.WithCancel(t.Context())
		b := &browser{t: t}
		visit := b.visit(url.Values{"code": {"c"}})
		granted, err := login(ctx, provider(t), "me", func(page string) error {
			defer cancel()
			return visit(page)
		})
		require.NoError(t, err)
		require.Equal(t, "c", granted.Code)
	}
}

// While the server ends, the browser may still be sent back on a connection that it has made before.
func TestRedirectAfterTheEndIsToldOfIt(t *testing.T) {
	r := &request{state: "s", settled: make(chan struct{})}
	r.settle(result{err: context.Canceled})
	w := httptest.NewRecorder()
	r.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/callback?state=s&code=c", http.NoBody))
	require.Contains(t, w.Body.String(), "The login has failed.")
}

func TestLoginEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := login(ctx, provider(t), "me", func(string) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	failed := io.ErrUnexpectedEOF
	_, err = login(t.Context(), provider(t), "me", func(string) error { return failed })
	require.ErrorIs(t, err, failed)
}
