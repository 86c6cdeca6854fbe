package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

func shop() servers {
	b := &v1alpha1.EventBus{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "b", UID: "1"}, Spec: v1alpha1.EventBusSpec{Embedded: &v1alpha1.EmbeddedSpec{}}}
	b.SetDefaults(context.Background())
	return servers{b, b.Spec.Embedded, PlaceOf("EventBus", "shop", "b")}
}

// trusts says whether somebody who knows these authorities lets in who shows this certificate.
func trusts(authorities, cert []byte, now time.Time) error {
	certs, roots := parse(cert, now), x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: "eventbus-b-2.eventbus-b.shop.svc", KeyUsages: usages})
	return err
}

// TestRenewal looks at a Secret every fortnight for 30 years: whoever connects knows the authority of the certificate then, also who was last
// told four weeks ago, and the password stays.
func TestRenewal(t *testing.T) {
	const fortnight = 14 * 24 * time.Hour
	o := &corev1.Secret{}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var password []byte
	var known [][]byte // the authorities of the last weeks
	certs, authorities, most := 0, 0, 0
	for now := begin; now.Before(begin.Add(30 * 365 * 24 * time.Hour)); now = now.Add(fortnight) {
		cert, key := o.Data[keyCert], o.Data[keyCAKey]
		if err := shop().fillSecret(now)(o); err != nil {
			t.Fatal(err)
		}
		if password == nil {
			password = o.Data[keyPassword]
		}
		if !bytes.Equal(o.Data[keyPassword], password) {
			t.Fatalf("%s: another password", now)
		}
		if !bytes.Equal(o.Data[keyCert], cert) {
			certs++
		}
		if !bytes.Equal(o.Data[keyCAKey], key) {
			authorities++
		}
		if _, err := tls.X509KeyPair(o.Data[keyCert], o.Data[keyKey]); err != nil {
			t.Fatalf("%s: %v", now, err)
		}
		known = append(known, o.Data[keyCA])
		known = known[max(0, len(known)-3):]
		for ago, ca := range known {
			if err := trusts(ca, o.Data[keyCert], now); err != nil {
				t.Fatalf("%s, for one of %d who know the authorities of the last weeks: %v", now, ago, err)
			}
		}
		// A member that has not read the Secret yet shows the certificate before.
		if cert != nil {
			if err := trusts(o.Data[keyCA], cert, now); err != nil {
				t.Fatalf("%s: the certificate before: %v", now, err)
			}
		}
		most = max(most, len(parse(o.Data[keyCA], now)))
	}
	if authorities != 4 || most != 2 || certs < 120 || certs > 190 {
		t.Errorf("there were %d authorities, %d at once at most, and %d certificates, want 4, 2 and 120 to 190", authorities, most, certs)
	}
}

func TestASecretThatSomebodyDamaged(t *testing.T) {
	now := time.Now()
	for _, key := range []string{keyUsername, keyPassword, keyCA, keyCAKey, keyCert, keyKey} {
		for _, value := range [][]byte{nil, []byte("rubbish")} {
			if value != nil && (key == keyUsername || key == keyPassword) {
				continue // as good as another
			}
			o, other := &corev1.Secret{}, &corev1.Secret{}
			for _, o := range []*corev1.Secret{o, other} {
				if err := shop().fillSecret(now)(o); err != nil {
					t.Fatal(err)
				}
			}
			before := o.DeepCopy()
			o.Data[key] = value
			if err := shop().fillSecret(now)(o); err != nil {
				t.Fatal(err)
			}
			if len(o.Data[keyPassword]) < 20 {
				t.Errorf("%s = %q: the password is %q", key, value, o.Data[keyPassword])
			}
			if err := trusts(o.Data[keyCA], o.Data[keyCert], now); err != nil {
				t.Errorf("%s = %q: %v", key, value, err)
			}
			if _, err := tls.X509KeyPair(o.Data[keyCert], o.Data[keyKey]); err != nil {
				t.Errorf("%s = %q: %v", key, value, err)
			}
			if key != keyPassword && key != keyUsername && !bytes.Equal(o.Data[keyPassword], before.Data[keyPassword]) {
				t.Errorf("%s = %q: another password", key, value)
			}
			// What belongs to somebody else is not good either.
			o.Data[key] = other.Data[key]
			if err := shop().fillSecret(now)(o); err != nil {
				t.Fatal(err)
			}
			if err := trusts(o.Data[keyCA], o.Data[keyCert], now); err != nil {
				t.Errorf("another one's %s: %v", key, err)
			}
		}
	}
}
