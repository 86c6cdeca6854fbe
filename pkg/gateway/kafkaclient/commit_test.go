package kafkaclient

import (
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
)

// session is what a Committer wants to know of one.
type session struct{ sarama.ConsumerGroupSession }

func (session) MemberID() string    { return "m1" }
func (session) GenerationID() int32 { return 7 }

// coordinator is a broker that takes commits of the versions from oldest on, and answers them with answer.
func coordinator(t *testing.T) (b *sarama.MockBroker, become func(oldest int16, answer sarama.KError)) {
	t.Helper()
	b = sarama.NewMockBroker(t, 1)
	t.Cleanup(b.Close)
	become = func(oldest int16, answer sarama.KError) {
		b.SetHandlerByMap(map[string]sarama.MockResponse{
			"ApiVersionsRequest": sarama.NewMockApiVersionsResponse(t).SetApiKeys([]sarama.ApiVersionsResponseKey{
				{ApiKey: 3, MaxVersion: 5}, {ApiKey: keyOffsetCommit, MinVersion: oldest, MaxVersion: 9}, {ApiKey: 10, MaxVersion: 2}, {ApiKey: 18, MaxVersion: 2},
			}),
			"MetadataRequest":        sarama.NewMockMetadataResponse(t).SetBroker(b.Addr(), b.BrokerID()),
			"FindCoordinatorRequest": sarama.NewMockFindCoordinatorResponse(t).SetCoordinator(sarama.CoordinatorGroup, "g", b),
			"OffsetCommitRequest":    sarama.NewMockOffsetCommitResponse(t).SetError("g", "t", 0, answer),
		})
	}
	return b, become
}

func TestCommitsSayHowLongOffsetsAreKept(t *testing.T) {
	b, become := coordinator(t)
	become(0, sarama.ErrNoError)
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient([]string{b.Addr()}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := NewCommitter(client, "g")
	commit := func() error {
		r := c.Request(session{})
		r.AddBlockWithLeaderEpoch("t", 0, 5, -1, 0, "metadata")
		response, err := c.Commit(r)
		if err != nil {
			t.Fatal(err)
		}
		return Answer(response, "t", 0)
	}
	const tenYears = 10 * 365 * 24 * time.Hour / time.Millisecond
	tests := []struct {
		name      string
		oldest    int16
		answer    sarama.KError
		version   int16
		retention int64
	}{
		{"all versions", 0, sarama.ErrNoError, 4, int64(tenYears)},
		{"the last one that says it, and the coordinator moves", 4, sarama.ErrNotCoordinatorForConsumer, 4, int64(tenYears)},
		{"later ones only", 5, sarama.ErrNotCoordinatorForConsumer, 8, 0},
		{"all versions again", 0, sarama.ErrNoError, 4, int64(tenYears)},
	}
	type sent struct {
		Version         int16
		Retention       int64
		Member          string
		Generation      int32
		Offset          int64
		Metadata        string
		GroupInstanceID *string
	}
	for _, tt := range tests {
		become(tt.oldest, tt.answer)
		var want error
		if tt.answer != sarama.ErrNoError {
			want = tt.answer
		}
		if err := commit(); !errors.Is(err, want) {
			t.Errorf("%s: Answer() = %v, want %v", tt.name, err, want)
		}
		var r *sarama.OffsetCommitRequest
		for _, h := range b.History() {
			if commit, ok := h.Request.(*sarama.OffsetCommitRequest); ok {
				r = commit
			}
		}
		offset, metadata, err := r.Offset("t", 0)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		request := sent{r.Version, r.RetentionTime, r.ConsumerID, r.ConsumerGroupGeneration, offset, metadata, r.GroupInstanceId}
		if diff := cmp.Diff(sent{tt.version, tt.retention, "m1", 7, 5, "metadata", nil}, request); diff != "" {
			t.Errorf("%s: the request differs (-want +got):\n%s", tt.name, diff)
		}
	}
}
