package embedded

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestRedisStandsForAServerAClusterAndSentinels(t *testing.T) {
	s := New(Options{Dial: nowhere()})
	defer closed(t, s)
	started := add(t, s,
		Need{Kind: Redis, Addresses: []string{"redis:6379"}, Username: "u", Password: "p"},
		Need{Kind: Redis, Addresses: []string{"sentinel:26379"}, Password: "p", Sentinel: &Sentinel{Master: "main", Username: "su", Password: "sp"}},
	)
	if len(started) != 2 {
		t.Fatalf("%d servers started, want 2: %v", len(started), started)
	}
	off := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	node := func(password string) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: started[0].Address, Username: "u", Password: password, MaintNotificationsConfig: off})
	}
	sentinels := func(master string) redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{
			SentinelAddrs: []string{started[1].Address}, MasterName: master, Password: "p", SentinelUsername: "su", SentinelPassword: "sp",
		})
	}
	tests := []struct {
		name   string
		client redis.UniversalClient
		works  bool
	}{
		{"a server", node("p"), true},
		{"a wrong password", node("wrong"), false},
		{"a cluster", redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: []string{started[0].Address}, Username: "u", Password: "p", MaintNotificationsConfig: off,
		}), true},
		{"Sentinels", sentinels("main"), true},
		{"another master", sentinels("other"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer tt.client.Close()
			err := tt.client.XAdd(t.Context(), &redis.XAddArgs{Stream: "orders", Values: []string{"data", "x"}}).Err()
			if got := err == nil; got != tt.works {
				t.Errorf("XADD: %v, want that it works: %t", err, tt.works)
			}
		})
	}
}
