package lab

import "testing"

func TestSecretIsFoundInLog(t *testing.T) {
	AddSecret("d41d8cd98f00b204e9800998ecf8427e")
	const id = "request_id=7BJCTJSKS7FEY6FZPZN5OQTHM2 application=4f1c0c7f8f6a4d6e9f3b2a1d0c9e8f7a"
	const line = `level=INFO msg=request path=/oauth/token ` + id + ` trace_id=4bf92f3577b34da6a3ce929d0e0e4736`
	if found := Secret(line); found != "" {
		t.Errorf("%q is no secret", found)
	}
	for _, secret := range []string{
		"MCAB7XWTGVLKPRQ2YZ3456ABCDEFGH", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
		"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
		"Bearer abcdefgh", "basic bGFiOmxhYg==", "client_secret=x", OperatorSecret, "d41d8cd98f00b204e9800998ecf8427e",
	} {
		if Secret(id+" x="+secret+" y") == "" {
			t.Errorf("%s is not found", secret)
		}
	}
}
