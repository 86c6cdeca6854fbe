package plan

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// minSecret is how long a secret must be to be looked for in what others say: a shorter one guards nothing, and is part of many words.
const minSecret = 4

// Hider hides the secrets of p, a plan or a part of one, in what somebody says who knows them, as long as they are written as they are, as in
// JSON, as in a URL, or as they are sent to a sink.
func Hider[T any](p *T) *strings.Replacer {
	forms := map[string]bool{}
	add := func(secret string) {
		if len(secret) < minSecret {
			return
		}
		quoted, _ := json.Marshal(secret) // a string can always be written
		for _, form := range []string{secret, string(quoted[1 : len(quoted)-1]), url.QueryEscape(secret), url.PathEscape(secret)} {
			forms[form] = true
		}
	}
	replace(reflect.ValueOf(*p), "", func(s, kind string) string {
		switch kind {
		case "value":
			for line := range strings.Lines(s) { // somebody may say a part of a key
				add(strings.TrimSpace(line))
			}
		case "url":
			eachURLSecret(s, add)
		case "secret url":
			eachURLSecret(s, add)
			eachURLPart(s, add)
		}
		return s
	})
	var pairs []string
	for _, form := range slices.SortedFunc(maps.Keys(forms), func(a, b string) int { return len(b) - len(a) }) { // one may begin with another
		pairs = append(pairs, form, hidden)
	}
	return strings.NewReplacer(pairs...)
}

// eachURLSecret calls add for what HideURL hides of s: passwords, alone and as basic authentication has them, or else what stands for one,
// and queries and their values.
func eachURLSecret(s string, add func(string)) {
	for _, m := range userInfo.FindAllString(s, -1) {
		user, password, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(m, "://"), "@"), ":")
		add(cmp.Or(password, user))
		user, password = unescaped(user), unescaped(password)
		add(cmp.Or(password, user))
		add(base64.StdEncoding.EncodeToString([]byte(user + ":" + password)))
	}
	for _, m := range query.FindAllStringSubmatch(s, -1) {
		q := strings.TrimSuffix(m[0][1:], m[1])
		add(q)
		values, _ := url.ParseQuery(q) // those that can be read
		for _, v := range values {
			for _, v := range v {
				add(v)
			}
		}
	}
}

// eachURLPart calls add for what else may be the secret of a URL that is one: all of it, its user, host, path and fragment, and each part of
// the path, which may be a word. An IP address is no secret, since it is told of each connection that fails.
func eachURLPart(s string, add func(string)) {
	add(s)
	u, err := url.Parse(s)
	if err != nil {
		return
	}
	add(u.User.Username())
	if host := u.Hostname(); net.ParseIP(host) == nil && host != "localhost" {
		add(host)
		add(strings.ToLower(host))
		if ascii, err := idna.Lookup.ToASCII(host); err == nil { // as it is looked up
			add(ascii)
		}
	}
	for _, path := range []string{u.EscapedPath(), u.Path, u.EscapedFragment(), u.Fragment} {
		add(path)
		for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == ':' }) {
			add(part)
		}
	}
}

func unescaped(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}
