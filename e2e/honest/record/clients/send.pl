# Sends the requests of a plan with Perl's LWP.
use strict; use warnings;
use JSON::PP; use LWP::UserAgent; use HTTP::Request;
my $plan = decode_json(do { local $/; open my $f, '<', $ARGV[0] or die $!; <$f> });
my $ua = LWP::UserAgent->new;
for my $r (@$plan) {
  my $q = HTTP::Request->new($r->{method}, $r->{url}, [%{$r->{headers}}]);
  $q->content($r->{body}) if defined $r->{body};
  $ua->request($q);
}
print "libwww-perl $LWP::VERSION\n";
