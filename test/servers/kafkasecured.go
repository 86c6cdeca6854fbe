package servers

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// SecuredKafkaServer is a KafkaServer that also has listeners which let in only whom they know. Its own methods use the one that lets in
// everybody.
type SecuredKafkaServer struct {
	*KafkaServer
	// Authority issued the certificate of the listeners with TLS, and those of the clients that SSL lets in.
	Authority *Authority
	// SASL wants PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; SASLSSL wants the same through TLS.
	SASL, SASLSSL string
	// SSL wants TLS and a client certificate.
	SSL string

	generation int // of the certificates of SSL
}

// PLAIN has one user. SCRAM has those of SetPassword.
const (
	KafkaUser     = "alice"
	KafkaPassword = "plain-s3cret"
)

// kafkaSecured has one block per mechanism; the unsecured tokens are those of KafkaTokens, and must have the scope kafka.
const kafkaSecured = `
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d,SASL://127.0.0.1:%[3]d,SASLSSL://127.0.0.1:%[4]d,SSL://127.0.0.1:%[5]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d,SASL://127.0.0.1:%[3]d,SASLSSL://127.0.0.1:%[4]d,SSL://127.0.0.1:%[5]d
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,SASLSSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location=%[6]s
ssl.truststore.type=PEM
ssl.truststore.location=%[7]s
listener.name.ssl.ssl.client.auth=required
`

const kafkaMechanisms = `
listener.name.%[1]s.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.%[1]s.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%[2]s="%[3]s";
listener.name.%[1]s.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.%[1]s.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.%[1]s.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
  unsecuredLoginStringClaim_sub="broker" unsecuredValidatorRequiredScope="kafka";
`

// SecuredKafka starts a broker that lives until the test ends, with these lines of configuration.
func SecuredKafka(t testing.TB, lines ...string) *SecuredKafkaServer {
	t.Helper()
	k, config := newSecuredKafka(t, NewAuthority(t))
	k.Configure(config + strings.Join(lines, "\n"))
	k.Start()
	return k
}

// newSecuredKafka returns a broker that does not run yet, and what makes it have its listeners.
func newSecuredKafka(t testing.TB, a *Authority) (k *SecuredKafkaServer, config string) {
	t.Helper()
	k = &SecuredKafkaServer{KafkaServer: newKafka(t), Authority: a}
	own := a.Server()
	keys, trust := filepath.Join(k.dir, "server.pem"), filepath.Join(k.dir, "authority.pem")
	for file, content := range map[string]string{keys: own.Key + own.Cert, trust: a.Cert} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sasl, saslSSL, ssl := FreePort(t), FreePort(t), FreePort(t)
	config = fmt.Sprintf(kafkaSecured, k.broker, k.controller, sasl, saslSSL, ssl, keys, trust)
	for _, listener := range []string{"sasl", "saslssl"} {
		config += fmt.Sprintf(kafkaMechanisms, listener, KafkaUser, KafkaPassword)
	}
	address := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	k.SASL, k.SASLSSL, k.SSL = address(sasl), address(saslSSL), address(ssl)
	return k, config
}

// SetPassword makes or changes a user of SCRAM, with both hashes.
func (k *SecuredKafkaServer) SetPassword(user, password string) {
	k.t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("set password of %s: %v", user, err)
	}
	defer admin.Close()
	for _, mechanism := range []sarama.ScramMechanismType{sarama.SCRAM_MECHANISM_SHA_256, sarama.SCRAM_MECHANISM_SHA_512} {
		// One request each: Kafka takes a user once per request.
		results, err := admin.UpsertUserScramCredentials([]sarama.AlterUserScramCredentialsUpsert{{
			Name: user, Mechanism: mechanism, Iterations: 4096, Salt: []byte("salt of " + user), Password: []byte(password),
		}})
		if err != nil {
			k.t.Fatalf("set password of %s: %v", user, err)
		}
		if code := results[0].ErrorCode; code != sarama.ErrNoError {
			k.t.Fatalf("set password of %s: %v", user, code)
		}
	}
}

// SetCertificates has the listener SSL show this certificate and let in whoever shows one of these authorities (PEM) from now on, or a moment
// later. Connections that are there stay.
func (k *SecuredKafkaServer) SetCertificates(shown Certificate, authorities ...string) {
	k.t.Helper()
	k.generation++
	files := map[string]string{"keystore": shown.Key + shown.Cert, "truststore": strings.Join(authorities, "")}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for store, content := range files {
		file := filepath.Join(k.dir, fmt.Sprintf("%s-%d.pem", store, k.generation))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			k.t.Fatal(err)
		}
		for name, value := range map[string]string{"location": file, "type": "PEM"} {
			entries["listener.name.ssl.ssl."+store+"."+name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
		}
	}
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("set certificates: %v", err)
	}
	defer admin.Close()
	if err := admin.IncrementalAlterConfig(sarama.BrokerResource, k.id(admin), entries, false); err != nil {
		k.t.Fatalf("set certificates: %v", err)
	}
}

func (k *SecuredKafkaServer) id(admin sarama.ClusterAdmin) string {
	k.t.Helper()
	brokers, _, err := admin.DescribeCluster()
	if err != nil {
		k.t.Fatal(err)
	}
	return fmt.Sprint(brokers[0].ID())
}

// KafkaTokens is an authorization server: it gives a client that shows its secret a token that a SecuredKafkaServer takes.
type KafkaTokens struct {
	// URL is the token endpoint's, https; Cert is what to trust it by, PEM.
	URL, Cert string
	// ClientID and Secret are of the only client, which has to ask for the scope kafka.
	ClientID, Secret string

	lifetime time.Duration
	secrets  atomic.Pointer[[]string]
}

// NewKafkaTokens starts an authorization server whose tokens live for lifetime. It ends with the test.
func NewKafkaTokens(t testing.TB, lifetime time.Duration) *KafkaTokens {
	t.Helper()
	ca := NewAuthority(t)
	k := &KafkaTokens{Cert: ca.Cert, ClientID: "reader", Secret: "oauth-s3cret", lifetime: lifetime}
	k.SetSecrets(k.Secret)
	server := httptest.NewUnstartedServer(http.HandlerFunc(k.give))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server().Pair(t)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	k.URL = server.URL + "/token"
	return k
}

// SetSecrets has the client's secret be any of these from now on.
func (k *KafkaTokens) SetSecrets(secrets ...string) { k.secrets.Store(&secrets) }

func (k *KafkaTokens) give(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	client, secret, _ := r.BasicAuth()
	if client != k.ClientID || !slices.Contains(*k.secrets.Load(), secret) || r.FormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"invalid_client"}`))
		return
	}
	now := time.Now()
	claims, _ := json.Marshal(map[string]any{
		"sub": client, "scope": r.FormValue("scope"), "iat": now.Unix(), "exp": now.Add(k.lifetime).Unix(),
	})
	encode := base64.RawURLEncoding.EncodeToString
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": encode([]byte(`{"alg":"none"}`)) + "." + encode(claims) + ".",
		"token_type":   "Bearer", "expires_in": int(k.lifetime.Seconds()),
	})
}
