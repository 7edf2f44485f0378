import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.OutputStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Collection;
import java.util.Date;
import java.util.Hashtable;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.ASN1PrintableString;
import org.bouncycastle.asn1.DEROctetString;
import org.bouncycastle.asn1.DERPrintableString;
import org.bouncycastle.asn1.DERSet;
import org.bouncycastle.asn1.cms.Attribute;
import org.bouncycastle.asn1.cms.AttributeTable;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.RSAESOAEPparams;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.ExtensionsGenerator;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.GeneralNames;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaCertStore;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.cms.CMSAlgorithm;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedDataStreamGenerator;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.CMSSignedDataStreamGenerator;
import org.bouncycastle.cms.DefaultSignedAttributeTableGenerator;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSignerInfoGeneratorBuilder;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.cms.jcajce.JceCMSContentEncryptorBuilder;
import org.bouncycastle.cms.jcajce.JceKeyTransEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientInfoGenerator;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequestBuilder;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;

/**
 * An SCEP client without a network, as clients in Java and on Android are made with BouncyCastle.
 *
 * <pre>
 * Enrol request FOLDER RA-ENCRYPT SUBJECT DNS CHALLENGE pkcs1|oaep   writes FOLDER/request.ber and what it needs later
 * Enrol read    FOLDER RA-SIGN                                       reads FOLDER/reply, prints the certificate
 * </pre>
 */
public final class Enrol {
    private static final ASN1ObjectIdentifier MESSAGE_TYPE = verisign(2);
    private static final ASN1ObjectIdentifier PKI_STATUS = verisign(3);
    private static final ASN1ObjectIdentifier FAIL_INFO = verisign(4);
    private static final ASN1ObjectIdentifier SENDER_NONCE = verisign(5);
    private static final ASN1ObjectIdentifier RECIPIENT_NONCE = verisign(6);
    private static final ASN1ObjectIdentifier TRANSACTION_ID = verisign(7);
    private static final ASN1ObjectIdentifier CHALLENGE_PASSWORD = PKCSObjectIdentifiers.pkcs_9_at_challengePassword;

    /** Octets in one piece of an octet string. */
    private static final int PIECE = 100;

    private static ASN1ObjectIdentifier verisign(int last) {
        return new ASN1ObjectIdentifier("2.16.840.1.113733.1.9." + last);
    }

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        Path folder = Path.of(arguments[1]);
        if (arguments[0].equals("request")) {
            boolean oaep = arguments[6].equals("oaep");
            request(folder, certificate(arguments[2]), arguments[3], arguments[4], arguments[5], oaep);
        } else {
            read(folder, certificate(arguments[2]));
        }
    }

    private static void request(
            Path folder, X509Certificate ra, String subject, String dns, String challenge, boolean oaep)
            throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
        generator.initialize(2048);
        KeyPair pair = generator.generateKeyPair();
        X509Certificate self = selfSigned(pair, new X500Name(subject));
        byte[] csr = csr(pair, new X500Name(subject), dns, challenge);

        CMSEnvelopedDataStreamGenerator envelopes = new CMSEnvelopedDataStreamGenerator();
        envelopes.setBufferSize(PIECE);
        JceKeyTransRecipientInfoGenerator recipient = oaep
                ? new JceKeyTransRecipientInfoGenerator(
                        ra, new AlgorithmIdentifier(PKCSObjectIdentifiers.id_RSAES_OAEP, new RSAESOAEPparams()))
                : new JceKeyTransRecipientInfoGenerator(ra);
        envelopes.addRecipientInfoGenerator(recipient.setProvider("BC"));
        ByteArrayOutputStream envelope = new ByteArrayOutputStream();
        try (OutputStream out = envelopes.open(
                envelope, new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES128_CBC).setProvider("BC").build())) {
            out.write(csr);
        }

        byte[] nonce = new byte[16];
        new SecureRandom().nextBytes(nonce);
        String transaction = new BigInteger(1, nonce).toString(16);
        Hashtable<ASN1ObjectIdentifier, Attribute> attributes = new Hashtable<>();
        put(attributes, MESSAGE_TYPE, new DERPrintableString("19"));
        put(attributes, SENDER_NONCE, new DEROctetString(nonce));
        put(attributes, TRANSACTION_ID, new DERPrintableString(transaction));
        JcaSignerInfoGeneratorBuilder signers =
                new JcaSignerInfoGeneratorBuilder(new JcaDigestCalculatorProviderBuilder().setProvider("BC").build());
        signers.setSignedAttributeGenerator(new DefaultSignedAttributeTableGenerator(new AttributeTable(attributes)));
        CMSSignedDataStreamGenerator messages = new CMSSignedDataStreamGenerator();
        messages.setBufferSize(PIECE);
        messages.addSignerInfoGenerator(signers.build(signer(pair), self));
        messages.addCertificates(new JcaCertStore(Arrays.asList(self)));
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        try (OutputStream out = messages.open(message, true)) {
            out.write(envelope.toByteArray());
        }

        Files.write(folder.resolve("request.ber"), message.toByteArray());
        Files.write(folder.resolve("csr.der"), csr);
        Files.write(folder.resolve("key.der"), pair.getPrivate().getEncoded());
        Files.write(folder.resolve("self.der"), self.getEncoded());
        Files.write(folder.resolve("nonce"), nonce);
        Files.write(folder.resolve("transaction"), transaction.getBytes(StandardCharsets.US_ASCII));
    }

    private static void read(Path folder, X509Certificate ra) throws Exception {
        byte[] key = Files.readAllBytes(folder.resolve("key.der"));
        PrivateKey privateKey = KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(key));
        CMSSignedData reply = new CMSSignedData(Files.readAllBytes(folder.resolve("reply")));
        SignerInformation signer = reply.getSignerInfos().getSigners().iterator().next();
        if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(ra))) {
            throw new Exception("the reply's signature does not verify");
        }
        AttributeTable attributes = signer.getSignedAttributes();
        String transaction = Files.readString(folder.resolve("transaction"));
        demand(transaction.equals(string(attributes, TRANSACTION_ID)), "another transactionID");
        byte[] nonce = Files.readAllBytes(folder.resolve("nonce"));
        demand(Arrays.equals(nonce, octets(attributes, RECIPIENT_NONCE)), "another recipientNonce");
        demand(octets(attributes, SENDER_NONCE).length == 16, "no senderNonce");
        demand("3".equals(string(attributes, MESSAGE_TYPE)), "no CertRep");
        if (!"0".equals(string(attributes, PKI_STATUS))) {
            System.out.println("FAILURE " + string(attributes, FAIL_INFO));
            return;
        }
        CMSEnvelopedData envelope = new CMSEnvelopedData((byte[]) reply.getSignedContent().getContent());
        RecipientInformation recipient = envelope.getRecipientInfos().getRecipients().iterator().next();
        System.err.println("key transport " + recipient.getKeyEncryptionAlgOID());
        byte[] opened = recipient.getContent(new JceKeyTransEnvelopedRecipient(privateKey).setProvider("BC"));
        Collection<X509CertificateHolder> all = new CMSSignedData(opened).getCertificates().getMatches(null);
        demand(all.size() == 1, all.size() + " certificates");
        System.out.println("-----BEGIN CERTIFICATE-----");
        System.out.println(java.util.Base64.getMimeEncoder(64, "\n".getBytes(StandardCharsets.US_ASCII))
                .encodeToString(all.iterator().next().getEncoded()));
        System.out.println("-----END CERTIFICATE-----");
    }

    private static byte[] csr(KeyPair pair, X500Name subject, String dns, String challenge) throws Exception {
        PKCS10CertificationRequestBuilder builder =
                new JcaPKCS10CertificationRequestBuilder(subject, pair.getPublic());
        builder.addAttribute(CHALLENGE_PASSWORD, new DERPrintableString(challenge));
        ExtensionsGenerator extensions = new ExtensionsGenerator();
        GeneralName name = new GeneralName(GeneralName.dNSName, dns);
        extensions.addExtension(Extension.subjectAlternativeName, false, new GeneralNames(name));
        builder.addAttribute(PKCSObjectIdentifiers.pkcs_9_at_extensionRequest, extensions.generate());
        return builder.build(signer(pair)).getEncoded();
    }

    private static X509Certificate selfSigned(KeyPair pair, X500Name name) throws Exception {
        long now = System.currentTimeMillis();
        JcaX509v3CertificateBuilder builder = new JcaX509v3CertificateBuilder(
                name, BigInteger.ONE, new Date(now - 3_600_000), new Date(now + 3_600_000), name, pair.getPublic());
        byte[] der = builder.build(signer(pair)).getEncoded();
        return (X509Certificate) CertificateFactory.getInstance("X.509")
                .generateCertificate(new java.io.ByteArrayInputStream(der));
    }

    private static ContentSigner signer(KeyPair pair) throws Exception {
        return new JcaContentSignerBuilder("SHA256withRSA").setProvider("BC").build(pair.getPrivate());
    }

    private static X509Certificate certificate(String file) throws Exception {
        try (FileInputStream in = new FileInputStream(file)) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in);
        }
    }

    private static void put(
            Hashtable<ASN1ObjectIdentifier, Attribute> table, ASN1ObjectIdentifier type, ASN1Encodable value) {
        table.put(type, new Attribute(type, new DERSet(value)));
    }

    private static ASN1Encodable value(AttributeTable attributes, ASN1ObjectIdentifier type) throws Exception {
        Attribute attribute = attributes.get(type);
        demand(attribute != null && attribute.getAttrValues().size() == 1, "no " + type);
        return attribute.getAttrValues().getObjectAt(0);
    }

    /** A PrintableString, as clients in Java demand it (Q45). */
    private static String string(AttributeTable attributes, ASN1ObjectIdentifier type) throws Exception {
        return ((ASN1PrintableString) value(attributes, type)).getString();
    }

    private static byte[] octets(AttributeTable attributes, ASN1ObjectIdentifier type) throws Exception {
        return ((ASN1OctetString) value(attributes, type)).getOctets();
    }

    private static void demand(boolean holds, String otherwise) throws Exception {
        if (!holds) {
            throw new Exception(otherwise);
        }
    }

    private Enrol() {}
}
